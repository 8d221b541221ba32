"""Whatever a trainer or a user puts into a log, its numbers are kept and nothing fails."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rldk.normalize import normalize


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(2**60), 2**60),
        (np.array([0.5]), 0.5),
        (np.array(3), 3),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([[7]]), 7),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (True, 1),
        (10**400, 10**400),
    ],
)
def test_every_kind_of_number_becomes_a_plain_one(value, number):
    """Numpy scalars and one-element tensors are numbers."""
    plain = normalize({"mine": value}, "GRPO").train["mine"]
    assert type(plain) in {int, float}
    assert plain == number


@pytest.mark.parametrize(
    "value", ["0.5", [1.0], np.array([1.0, 2.0]), torch.zeros(2), 1j, object(), Decimal(1)]
)
def test_what_is_no_number_is_left_out_and_said(value):
    """A note tells which key was left out."""
    told = normalize({"mine": value, "loss": 1.0}, "GRPO")
    assert told.train == {"loss": 1.0}
    assert "mine" in told.notes[0]


def test_none_is_missing():
    """None means that nobody measured; it is neither 0 nor NaN nor worth a note."""
    assert normalize({"rewards/f/mean": None, "loss": 1.0}, "GRPO")[:4] == ({"loss": 1.0}, {}, {}, [])


def test_an_unknown_key_keeps_its_name():
    """Nothing is dropped for being unknown."""
    assert normalize({"my/metric": 1.0, "eval_my/metric": 2.0}, "GRPO")[:2] == (
        {"my/metric": 1.0},
        {"my/metric": 2.0},
    )


def test_a_log_that_holds_itself_is_taken():
    """However deep, the numbers near the top are kept."""
    logs = {"loss": 1.0}
    logs["again"] = logs
    told = normalize(logs, "GRPO")
    assert told.train["loss"] == 1.0
    assert "left out" in told.notes[0]


def test_what_was_left_out_is_not_repeated():
    """The note names the key and the type: the value may be a secret."""
    assert "hunter2" not in str(normalize({"url": "https://u:hunter2@host"}, "GRPO").notes)


def test_a_nested_log_is_flattened():
    """Sections of a log become sections of the name."""
    assert normalize({"mine": {"a": {"b": 1}}}, "GRPO").train == {"mine/a/b": 1}


def test_a_users_key_never_takes_a_canonical_name():
    """Both numbers are kept, and a note tells which is which."""
    told = normalize({"reward_mean": 9.0, "reward": 1.0}, "GRPO")
    assert told.train == {"reward_mean": 1.0, "raw/reward_mean": 9.0}
    assert "raw/reward_mean" in told.notes[0]


def test_a_users_keys_may_look_like_ours():
    """A key that looks like the way out of such a clash is kept too."""
    told = normalize({"raw/reward_mean": 8.0, "reward_mean": 9.0, "reward": 1.0}, "GRPO")
    assert sorted(told.train.values()) == [1.0, 8.0, 9.0]


def test_the_raw_name_of_each_number_is_told():
    """By part and name, so that a reader can find it in the trainer's own log."""
    logs = {"reward": 1.0, "eval_reward": 2.0, "mine": 3.0, "epoch": 0.5}
    assert normalize(logs, "GRPO").raw_names == {
        ("train", "reward_mean"): "reward",
        ("eval", "reward_mean"): "eval_reward",
        ("train", "mine"): "mine",
        ("train", "epoch"): "epoch",
        ("eval", "epoch"): "epoch",
    }


def test_the_log_is_not_changed():
    """All callbacks of a trainer share one dict."""
    logs = {"reward": 1.0, "eval_reward": None, "x": {"y": 2}}
    normalize(logs, "GRPO")
    assert logs == {"reward": 1.0, "eval_reward": None, "x": {"y": 2}}


KEYS = ["loss", "reward", "eval_reward", "train_loss", "eval_", "", "reward_mean", "raw/reward_mean"]
KEYS += ["eval_a_runtime", "eval_a_loss", "eval_loss", "eval_a/loss", "eval_raw/a/loss", "eval_runtime"]


@given(
    st.dictionaries(
        st.text() | st.sampled_from([*KEYS, "epoch"]),
        st.none() | st.floats() | st.integers() | st.text() | st.lists(st.floats(), max_size=2),
    )
)
def test_no_number_is_lost(logs):
    """As many numbers come out as went in, whatever the keys; the epoch stands in each part."""
    told = normalize(logs, "GRPO")
    numbers = [v for k, v in logs.items() if isinstance(v, int | float) and k != "epoch"]
    kept = [v for part in told[:3] for k, v in part.items() if k != "epoch"]
    assert sorted(map(repr, kept)) == sorted(map(repr, numbers))
