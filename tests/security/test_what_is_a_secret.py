"""What a secret looks like is known, in any text and under any name; what only looks like one stays."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from rldk.cli.app import _Console
from rldk.event import Event, encode
from rldk.health.monitor import Monitor
from rldk.health.rules import built_in
from rldk.hiding import hidden
from rldk.journal import Journal
from rldk.normalize import derived, units
from rldk.redact import HIDDEN, logger, redact, redact_sentence, redact_text
from tests.security._secrets import FORMS, FRIENDS, HARMLESS, HEX, KEYS, PLACES, RANDOM

ROOT = Path(__file__).parents[2]
MB = 10**6
HOSTILE = (
    *("a", "-", "@", "&", "\\", '"', " ", "\n", "1", "://", "a:", "a,", "://a:", "://a:b@", "key=", "token:"),
    *("--key ", "hf_", "sk-ant-", "?key", 'key="\\', "Bearer ", "Basic a", "login a password ", "api key "),
    *("eyJ.", "eyJaaaaaaaa.", "12345678:", "a.b-", "SG.aaaaaaaaaaaaaaaa", "-----BEGIN PRIVATE KEY-----"),
    *("hooks.slack.com/services/", 'key=\\\\"', "token\t", "key 'a', "),
    *("password: a b ", "secret: x y ", "password: - ", "PWD=/", "password=[hidden]", "?token=[hidden]"),
    *("password=a(b", "password=a;b", "token=a&b=", "secret=[[", "secret=((", "token={", "curl -u a:b "),
)


@pytest.mark.parametrize("secret", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("around", ["{}", "got {} back", "x={},", "('{}')", "https://h/{}/y", "{}\n"])
def test_a_form_is_known_wherever_it_stands(secret, around):
    """Also where nothing before it says so."""
    said = redact_text(around.format(secret))
    assert secret not in said
    assert secret[10:] not in said


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_place_gives_a_secret_away(place):
    """The rest of the text stays."""
    said = redact_text(place.format(RANDOM))
    assert RANDOM not in said
    assert HIDDEN in said
    assert said.split(HIDDEN)[0] == place.format(RANDOM)[: len(said.split(HIDDEN)[0])]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [RANDOM, "hunter2", "a phrase of words", ["hunter2"]])
def test_a_name_gives_a_secret_away(key, value):
    """At every depth."""
    said = redact({"x": [{key: value}], "input": {key: value}})
    shown = {key: [HIDDEN] if isinstance(value, list) else HIDDEN}
    assert said == {"x": [shown], "input": shown}


def test_a_name_may_say_so_for_all_that_is_below_it():
    """As `secrets` does, and a token that comes with its name, or with a default."""
    told = {"secrets": {"openai": "hunter2", "n": 3}, "credentials": [{"user": "hunter2"}]}
    assert redact(told) == {"secrets": {"openai": HIDDEN, "n": HIDDEN}, "credentials": [{"user": HIDDEN}]}
    for key in ("hub_token", "token", "auth", "api_key"):
        for below in ({"value": "abcdefgh"}, {"default": ["abcdefgh"]}, [{"x": {"y": "abcdefgh"}}]):
            assert "abcdefgh" not in str(redact({key: below}))
    assert redact("abcdefgh", "hub_token.value") == HIDDEN
    assert redact({"hub_token.value": "abcdefgh"}) == {"hub_token.value": HIDDEN}
    deep = {"password": {"a" * 300: {"b": "hunter2"}}}
    assert "hunter2" not in str(redact(deep))


@pytest.mark.parametrize("field", ["rng", "data_slice", "model_info"])
def test_a_number_under_a_secrets_name_is_hidden(field):
    """It may be a password; outside of `metrics`, where a name is a metric's."""
    told = {"db_password": 918273645, "api_key": 55512345, "pin": {"secret": [271828.0]}}
    one = event(**{field: told})
    assert getattr(hidden(one), field) == {
        "db_password": HIDDEN,
        "api_key": HIDDEN,
        "pin": {"secret": [HIDDEN]},
    }
    flat = {"seed": 42, "db_password": 918273645}
    assert getattr(hidden(event(**{field: flat})), field) == {"seed": 42, "db_password": HIDDEN}
    assert redact_text("db_password: 918273645") == f"db_password: {HIDDEN}"


def test_no_secret_of_a_name_is_in_the_journals_bytes(tmp_path):
    """Numbers, values below a name, and what begins like a folder, among the arguments and the facts."""
    told = {
        "args": {"db_password": 918273645, "hub_token": {"value": "abcdefgh"}, "use_auth_token": True},
        "token": {"default": "ijklmnop"},
        "env": {"MYSQL_PWD": "~tilde-secret", "PWD": "/home/jane"},
    }
    path = tmp_path / "r_events.jsonl"
    with Journal(path) as journal:
        journal.append(event(model_info=told, rng={"api_key": 55512345}))
    written = path.read_text()
    secrets = ("918273645", "abcdefgh", "ijklmnop", "~tilde-secret", "55512345")
    assert [secret for secret in secrets if secret in written] == []
    assert '"use_auth_token":true' in written
    assert "/home/jane" in written


def test_numbers_and_flags_that_are_no_secrets_stay():
    """Metrics, counts, lengths, ids of tokens; true, false and null."""
    one = event(metrics={"rewards/secret_word/mean": 0.5, "api_key": 5.0})
    assert hidden(one) is one
    told = {
        "metrics": {"secret_reward": 0.5},
        "alert": {"evidence": {"password_reward": 7.0}},
        "args": {"use_auth_token": True, "token": None, "password": None, "secret": False, "api_key": 0},
        "tokens": {"pad_token": "<pad>", "pad_token_id": 151643, "num_tokens": 17, "max_tokens": 256},
        "limits": {"password_length": 12, "webhook_timeout_s": 30, "cookie": float("inf"), "token": 12},
    }
    assert redact(told) == told


def test_the_working_folder_is_told_from_a_password():
    """By the whole of its name."""
    told = {"env": {"PWD": "/home/jane", "OLDPWD": "/"}}
    assert redact(told) == told
    for secret in ("~tilde-secret", "/slash", ".dot"):
        assert redact({"MYSQL_PWD": secret}) == {"MYSQL_PWD": HIDDEN}
        assert secret not in redact_text(f"MYSQL_PWD={secret} mysqldump")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DB_PASS=hunter2 make", "DB_PASS=[hidden] make"),
        ("OPENAI_KEY=abcdef make", "OPENAI_KEY=[hidden] make"),
        ("curl -u user:pw https://x", "curl -u [hidden] https://x"),
        ("curl --user='me:p w' https://x", "curl --user=[hidden] https://x"),
        ("X-Auth-Token: abc123", "X-Auth-Token: [hidden]"),
        ("password=Sup3r(Secret)Pw is wrong", "password=[hidden] is wrong"),
        ("password=a)b}c]d>e is wrong", "password=[hidden] is wrong"),
        ("password=a|b<c`d\\e is wrong", "password=[hidden] is wrong"),
        ("PASSWORD=aaa,bbb;ccc&ddd make", "PASSWORD=[hidden] make"),
        ("PASSWORD=aaa && make; PASSWORD=bbb; make", "PASSWORD=[hidden] && make; PASSWORD=[hidden]; make"),
        ("Foo(token=abc, n=3) failed", "Foo(token=[hidden], n=3) failed"),
        ("Foo(n=3,token=abc,m=Bar(token=def)).x", "Foo(n=3,token=[hidden],m=Bar(token=[hidden])).x"),
        ("(see {token=abc}, [token=def])", "(see {token=[hidden]}, [token=[hidden]])"),
        ("<b>token=abc</b> `token=def` is", "<b>token=[hidden]</b> `token=[hidden]` is"),
        ("/x?token=a,b&n=3#top", "/x?token=[hidden]&n=3#top"),
        ("UID=u;PWD=a,b;Connect Timeout=30;x=1", "UID=u;PWD=[hidden];Connect Timeout=30;x=1"),
    ],
)
def test_all_of_a_value_is_hidden_and_no_more(text, said):
    """A value without quotes goes on to white space or a quote; what is around it is told as it was."""
    assert redact_text(text) == said


def test_the_login_of_curl_is_hidden_in_a_list_of_words_too():
    """As `sys.argv` is; the numbers of a user and a group are not meant."""
    told = ["curl", "-u", "user:pw", "https://x"]
    assert redact(told) == ["curl", "-u", HIDDEN, "https://x"]
    docker = ["docker", "run", "-u", "1000:1000"]
    assert redact(docker) == docker


def test_a_legacy_key_of_wandb_is_told_from_a_commit():
    """Both are forty hexadecimal digits: the name, or the words before it, tell."""
    forty = f"{HEX}0f1e2d3c"
    told = {"wandb_key": forty, "git_sha": forty, "note": f"commit {forty}"}
    assert redact(told) == told | {"wandb_key": HIDDEN}
    for text in (
        f"wandb login {forty}",
        f"API key must be 40 characters long, not {forty}",
        f"WANDB_API_KEY={forty}",
    ):
        assert forty not in redact_text(text)


@pytest.mark.parametrize("key", FRIENDS)
def test_false_friends_stay(key):
    """Tokens of a tokenizer, counts, names, commits."""
    assert redact({key: FRIENDS[key]}) == {key: FRIENDS[key]}


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts_stay(text):
    """Letter for letter."""
    assert redact_text(text) == text


def test_every_kind_of_value_is_looked_into():
    """Names of keys, bytes, tuples, sets, JSON inside a text, an option's value in a list."""
    secret = FORMS["hugging face"]
    told = {
        secret: 1,
        "bytes": f"x {secret}".encode(),
        "tuple": (secret,),
        "set": {secret},
        "json": json.dumps({"a": json.dumps({"password": RANDOM})}),
        "argv": ["train", "--api-key", RANDOM, "--lr", "1"],
        "same": b"\x80plain",
    }
    said = redact(told)
    assert secret not in str(said)
    assert RANDOM not in str(said)
    assert said["argv"] == ["train", "--api-key", HIDDEN, "--lr", "1"]
    assert said["same"] == b"\x80plain"


def test_two_names_that_differ_in_their_secrets_alone_keep_apart():
    """No number is lost."""
    said = redact({FORMS["hugging face"]: 1, FORMS["openai"]: 2})
    assert sorted(said.values()) == [1, 2]


def test_what_holds_itself_is_no_trouble():
    """What lies too deep to be looked at is hidden."""
    told = {}
    told["me"] = [told]
    assert HIDDEN in str(redact(told))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [
        *(
            *FORMS.values(),
            *KEYS,
            *FRIENDS,
            *HARMLESS,
            *HOSTILE,
            RANDOM,
            HIDDEN,
            "'",
            '"',
            "=",
            ": ",
            "@",
            "/",
            *"()[]{}<>|`,;&\\",
        ),
        *(place.format(RANDOM) for place in PLACES.values()),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=8).map("".join)


@given(JSON)
def test_it_never_raises_and_a_second_time_changes_nothing(value):
    """Whatever it is given."""
    once = redact(value)
    assert repr(redact(once)) == repr(once)


@given(TEXTS)
def test_a_text_that_was_looked_at_stays_as_it_is(text):
    """However the pieces are put together."""
    once = redact_text(text)
    assert redact_text(once) == once
    sentence = redact_sentence(text)
    assert redact_sentence(sentence) == sentence


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_takes_no_time(piece):
    """Two seconds of a processor for a megabyte at most: no pattern goes back over what it has passed."""
    text = piece * (MB // len(piece))
    began = time.process_time()
    redact_sentence(text)
    assert time.process_time() - began < 2


def event(**given):
    """A step of training with thirty metrics, as most events are."""
    told = {
        "metrics": dict.fromkeys(NAMES, 0.5),
        "rng": {"seed": 42},
        "data_slice": {"tokens_in": 1000, "tokens_out": 500},
        "model_info": {"run_id": "abc", "git_sha": "9a3f" * 10, "phase": "train", "segment": 0},
        "notes": [],
    }
    return Event(step=1, wall_time=1.0, **(told | given))


NAMES = tuple(f"rewards/function_{n}/mean" for n in range(30))


def test_an_event_without_a_secret_is_given_back_itself():
    """And costs less than to write it as JSON does."""
    one = event()
    assert hidden(one) is one
    assert best_of(lambda: hidden(one)) < 1.5 * best_of(lambda: encode(one))


def best_of(action):
    """The least time that two hundred calls took, of twenty tries."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(200):
            action()
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize(
    "field",
    [
        {"metrics": {FORMS["jwt"]: 1.0}},
        {"rng": {"seed": FORMS["jwt"]}},
        {"data_slice": {"path": f"x?sig={FORMS['jwt']}"}},
        {"model_info": {"run_id": "a", "args": {"x": [FORMS["jwt"]]}}},
        {"model_info": {"run_id": FORMS["jwt"]}},
        {"notes": [f"used {FORMS['jwt']}"]},
    ],
    ids=lambda field: next(iter(field)),
)
def test_every_field_of_an_event_is_looked_at(field):
    """The event that was given stays as it was."""
    one = event(**field)
    before = msgspec.to_builtins(one)
    assert FORMS["jwt"].encode() not in encode(hidden(one))
    assert msgspec.to_builtins(one) == before


def test_a_line_of_the_log_holds_no_secret(caplog):
    """In its template, its arguments, its mapping, its traceback; and who groups by template still can."""
    log = logger("rldk.test")
    secret = FORMS["github"]
    with caplog.at_level("DEBUG"):
        log.warning("failed: %s at step %d", ValueError(secret), 3)
        log.warning(f"failed: {secret}")  # noqa: G004  # that is what is tested
        log.warning("%(hub_token)s", {"hub_token": RANDOM})
        log.error("it failed", exc_info=ValueError(secret))
    assert secret not in caplog.text
    assert RANDOM not in caplog.text
    assert "ValueError: [hidden]" in caplog.text
    assert caplog.records[0].msg == "failed: %s at step %d"
    assert caplog.records[0].args[1] == 3


def test_a_logger_hides_once():
    """However often it is asked for."""
    assert logger("rldk.test") is logger("rldk.test")
    assert len(logging.getLogger("rldk.test").filters) == 1


def test_the_terminal_shows_none(capsys):
    """In a sentence, in a table's cell and heading, with markup and without; `[hidden]` itself is shown."""
    console = _Console(highlight=False, width=200)
    table = Table("run", f"x?sig={RANDOM}")
    table.add_row(f"http://me:{RANDOM}@h/x", f"[bold]token={RANDOM}[/bold]")
    console.print(table)
    console.print(f"api_key={RANDOM} and [bold]more[/bold]")
    console.print(f"[x] {FORMS['github']}", markup=False)
    shown = capsys.readouterr().out
    assert RANDOM not in shown
    assert FORMS["github"] not in shown
    assert shown.count(HIDDEN) == 5
    assert "[x] [hidden]" in shown


def test_nothing_of_trl_or_of_rldks_own_looks_like_one():
    """Default arguments, units, formulas, rules, and every log that was recorded of a real training."""
    trl = pytest.importorskip("trl")
    told = [Monitor(built_in()).summary()]
    for trainer in ("PPO", "GRPO", "RLOO", "OnlineDPO", "DPO", "KTO", "Reward", "SFT"):
        told.append({"units": units(trainer), "derived": derived(trainer)})
        if config := getattr(trl, f"{trainer}Config", None):
            args = config(output_dir="x", use_cpu=True, bf16=False).to_dict()
            told.append({"args": msgspec.to_builtins(args, str_keys=True, enc_hook=str)})
    assert [each for each in told if redact(each) != each] == []
    recordings = [path for path in (ROOT / "tests" / "data" / "recordings").rglob("*") if path.is_file()]
    lines = [line for path in recordings for line in path.read_text().splitlines()]
    assert len(lines) > 100
    assert [line for line in lines if redact_text(line) != line] == []


def test_prose_is_no_assignment_but_a_line_of_a_file_is_one():
    """A word and more words behind a colon in the midst of a line are the sentence going on."""
    assert "hunter" in redact_text("it asks for the password: hunter is what comes next")
    for text in (
        "password: hunter",
        "x:\n  - password: hunter two",
        "the password: hunter2 is",
        "password=hunter is",
    ):
        assert "hunter" not in redact_text(text)
