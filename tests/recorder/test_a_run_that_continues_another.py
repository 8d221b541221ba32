"""A run that goes on from another's checkpoint is judged with what was measured there."""

from __future__ import annotations

import logging

import pytest

from rldk import lineage
from rldk.cursor import Cursor, CursorFile, beginning
from rldk.journal import Journal, last_event
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from rldk.testing.doubles import MemorySink


def record(folder, run_id, norms, *, step=0, continues=None, sinks=()):
    """Record a run of gradient norms, from a step on; give its recorder."""
    facts = {"continues": continues} if continues else {}
    run = Run(run_id=run_id, trainer="GRPO", facts=facts)
    recorder = Recorder(Journal(folder / f"{run_id}_events.jsonl"), run, settings=Settings())
    recorder.begin(step, list(sinks))
    for number, norm in enumerate(norms, step + 1):
        recorder.emit("metrics", number, {"grad_norm": norm})
    recorder.end("FINISHED", step + len(norms))
    return recorder


def zero_gradients(recorder):
    """What the rule says of a run."""
    return next(each for each in recorder.monitor.summary()["rules"] if each["rule"] == "zero_gradients")


def test_the_rules_know_what_was_measured_before(tmp_path):
    """Gradients that are 0 after a resume were not always so; steps beyond the checkpoint are superseded."""
    record(tmp_path, "first", [1.0] * 20 + [7.0] * 5)
    alone = record(tmp_path, "alone", [0.0] * 20, step=20)
    linked = record(tmp_path, "second", [0.0] * 20, step=20, continues="first")
    assert "in all 20 points" in zero_gradients(alone)["reason"]
    assert "in the last 15 points" in zero_gradients(linked)["reason"]
    third = record(tmp_path, "third", [0.0] * 20, step=40, continues="second")
    assert zero_gradients(third)["severity"] == zero_gradients(linked)["severity"]


def test_what_was_told_there_is_not_told_here(tmp_path):
    """The new run has its own alerts only."""
    record(tmp_path, "first", [float("nan")] * 5 + [1.0] * 20)
    linked = record(tmp_path, "second", [1.0] * 5, step=25, continues="first")
    assert linked.monitor.summary()["verdict"] == "ok"


def test_recalling_judges_nothing(tmp_path):
    """Nor is it counted as a point."""
    record(tmp_path, "first", [float("nan")] * 30)
    recorder = record(tmp_path, "second", [], step=30, continues="first")
    assert recorder.monitor.summary()["verdict"] == "unknown"


def test_a_circle_of_runs_ends(tmp_path):
    """Whatever the journals say of one another."""
    record(tmp_path, "a", [1.0], continues="b")
    record(tmp_path, "b", [1.0], continues="a")
    own = tmp_path / "b_events.jsonl"
    assert lineage.before(own, "a") == [tmp_path / "a_events.jsonl"]
    assert lineage.before(own, "b") == lineage.before(own, "gone") == lineage.before(own, None) == []


@pytest.mark.parametrize("missing", [0, 3])
def test_what_a_tracker_lacks_of_it_is_said(tmp_path, caplog, missing):
    """With the command that delivers it, for nobody else will."""
    record(tmp_path, "first", [1.0] * 9)
    path = tmp_path / "first_events.jsonl"
    last = last_event(path).seq
    CursorFile(path, MemorySink.name).save(Cursor(journal=beginning(path), seq=last - missing))
    with caplog.at_level(logging.WARNING):
        record(tmp_path, "second", [1.0], step=9, continues="first", sinks=[MemorySink()])
    told = [each.getMessage() for each in caplog.records if "first" in each.getMessage()]
    lacks = f"{MemorySink.name} lacks 3 events of run first, which this one continues"
    assert told == [f"{lacks}; deliver them with: rldk sync {path} --to {MemorySink.name}"] * bool(missing)
