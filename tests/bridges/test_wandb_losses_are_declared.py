"""What W&B does not keep of an event is what the sink declares, and no more."""

from __future__ import annotations

import math

import pytest

from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import RUN, deliver, event, read_back, wandb_offline  # noqa: F401

pytestmark = pytest.mark.real


def back(*sent):
    """What comes back of some events."""
    return read_back(deliver(RUN, sent).source)


def declared(words):
    """Whether a loss is declared."""
    return any(words in loss for loss in WandbSink.losses)


def test_float_without_fraction():
    """4.0 comes back as 4, an int."""
    (only,) = back(event(1, metrics={"a": 4.0}))
    assert (only.metrics["a"], type(only.metrics["a"])) == (4, int)
    assert declared("4.0 as 4")


def test_wide_integers():
    """Integers beyond 64 bits come back as floats, or as an infinity, and never break a row."""
    (only,) = back(event(1, metrics={"a": 2**70, "b": 10**400, "c": -(10**5000), "d": -(2**63), "e": 2**63}))
    infinite = {"b": math.inf, "c": -math.inf}
    assert only.metrics == {"a": float(2**70), "d": -(2**63), "e": float(2**63)} | infinite
    assert declared("beyond 64 bits")


def test_truth_values():
    """True comes back as 1."""
    (only,) = back(event(1, data_slice={"packed": True}, metrics={"a": 1}))
    assert type(only.data_slice["packed"]) is int
    assert declared("True and False")


def test_texts():
    """Notes, texts in data_slice, and all but a few facts of model_info are gone."""
    lost = {"notes": ["high"], "data_slice": {"split": "train", "n": 2}, "rng": {"seed": 42, "torch": 1}}
    (only,) = back(event(1, metrics={"a": 1}, model_info={"units": "nat"}, **lost))
    assert (only.notes, only.data_slice, only.rng) == ([], {"n": 2}, {"seed": 42})
    assert only.model_info.keys() == {"run_id", "git_sha", "phase", "segment"}
    assert all(map(declared, ["Notes", "data_slice only numbers", "rng only the seed", "model_info only"]))


def test_events_without_numbers():
    """An event without a number leaves no row."""
    assert back(event(1, kind="alert", notes=["KL is high"]), event(2, metrics={"a": 1}))[0].seq == 2
    assert declared("without a number")


def test_killed():
    """A run that was killed reads back as one that failed."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.close("KILLED", [])
    *_, end = WandbAdapter(home.source).events()
    assert end.model_info["status"] == "FAILED"
    assert declared("KILLED")


def test_config_that_is_not_finite():
    """NaN in the config reads back as its name; W&B itself would make a null of it."""
    run = event(0, kind="run", model_info={"config": {"a": math.nan, "b": math.inf}})
    first = next(WandbAdapter(deliver(run, []).source).events())
    assert first.model_info["config"] == {"a": "NaN", "b": "Infinity"}
    assert declared("NaN and the infinities read back from the config")
