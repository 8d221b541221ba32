"""Secrets are hidden; what only looks like one is not."""

from __future__ import annotations

import pytest

from rldk.redact import HIDDEN, redact, redact_text


@pytest.mark.parametrize(
    "key",
    [
        "hub_token",
        "token",
        "api_key",
        "apikey",
        "wandb_api_key",
        "password",
        "db.passwd",
        "client_secret",
        "auth",
    ],
)
def test_the_value_of_a_secret_key_is_hidden(key):
    """At every depth, in lists too."""
    assert redact({"a": [{key: "xyz"}]}) == {"a": [{key: HIDDEN}]}


@pytest.mark.parametrize(
    "key", ["pad_token", "eos_token", "bos_token", "num_tokens", "max_token_length", "author"]
)
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


def test_the_password_of_a_url_is_hidden():
    """The rest of the URL stays."""
    said = redact_text("cannot reach https://me:hunter2@mlflow.example/api")
    assert "hunter2" not in said
    assert said.endswith("@mlflow.example/api")


@pytest.mark.parametrize("value", [None, 1, 1.5, True, "", "plain", [1, "x"], {"a": None}])
def test_everything_else_is_left_alone(value):
    """Numbers, empty values and plain text pass."""
    assert redact(value, "hub_tokens_seen") == value
