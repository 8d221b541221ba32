"""Secrets are hidden; what only looks like one is not."""

from __future__ import annotations

import pytest

from rldk.redact import HIDDEN, redact, redact_text

SECRET_KEYS = [
    *("hub_token", "token", "tokens", "api_key", "apikey", "wandb_api_key", "password", "db.passwd"),
    *("db_password1", "PGPASSWORD", "passphrase", "client_secret", "secret_key", "private_key"),
    *("aws_access_key_id", "Authorization"),
]
FALSE_FRIENDS = [
    *("pad_token", "eos_token", "stop_tokens", "num_tokens", "max_token_length"),
    *("author", "text_key", "metric_key_prefix", "tokenizer"),
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_the_value_of_a_secret_key_is_hidden(key):
    """At every depth, in lists too."""
    assert redact({"a": [{key: "xyz"}]}) == {"a": [{key: HIDDEN}]}


@pytest.mark.parametrize("key", FALSE_FRIENDS)
def test_false_friends_stay(key):
    """A tokenizer's special tokens are no secrets."""
    assert redact({key: "xyz"}) == {key: "xyz"}


@pytest.mark.parametrize(
    "secret", ["hf_" + "a" * 34, "sk-" + "b" * 40, "ghp_" + "c" * 36, "AKIA" + "D" * 16, "dapi" + "0" * 32]
)
def test_known_forms_of_tokens_are_hidden_anywhere(secret):
    """Whatever the key, and within a sentence."""
    assert secret not in str(redact({"note": f"used {secret} here"}))
    assert secret not in redact_text(f"401 for {secret}")


def test_a_key_that_may_be_secret_is_judged_by_its_value():
    """A random text under any `...key` is hidden, a word is not."""
    assert redact({"wandb_key": "0123456789abcdef" * 2, "sort_key": "length"}) == {
        "wandb_key": HIDDEN,
        "sort_key": "length",
    }


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach https://me:hunter2@mlflow.example/api",
        "cannot reach https://me:p@ss/hunter2@mlflow.example/api",
        "cannot reach https://hunter2@mlflow.example/api",
        "https://mlflow.example/api?x=1&api_key=hunter2&y=2",
        "postgresql+psycopg://u:hunter2@db/mlflow",
        "Authorization: Bearer hunter2",
    ],
)
def test_what_a_url_or_a_header_gives_away_is_hidden(text):
    """The host stays."""
    said = redact_text(text)
    assert "hunter2" not in said
    assert ("mlflow" in said) == ("mlflow" in text)


@pytest.mark.parametrize("value", [None, 1, 1.5, True, "", "plain", [1, "x"], {"a": None}])
def test_everything_else_is_left_alone(value):
    """Numbers, empty values and plain text pass."""
    assert redact(value, "hub_tokens_seen") == value
