"""Events that go into a W&B run come back as they were: beyond the law, of which tests/law is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import RUN, deliver, event, plain, read_back, wandb_offline  # noqa: F401

if TYPE_CHECKING:
    from rldk.event import Event

pytestmark = pytest.mark.real


def check(run: Event, events: list[Event]) -> None:
    """Deliver the events, read them, compare."""
    home = deliver(run, events)
    assert [plain(event) for event in read_back(home.source)] == [plain(event) for event in events]


def test_kinds_and_phases() -> None:
    """Train, eval, resources, checkpoints and the end stay apart, and so does what data_slice counts."""
    seen = {"tokens_in": 1000, "tokens_out": 12.5}
    events = [
        event(1, step=5, metrics={"reward_mean": 0.25}, data_slice=seen),
        event(2, step=5, metrics={"reward_mean": 0.5}, model_info={"phase": "eval"}),
        event(3, step=5, metrics={"gpu_memory_gb": 3.5}, kind="resource"),
        event(4, step=6, metrics={"size_mb": 7.25}, kind="checkpoint"),
        event(5, step=6, metrics={"steps": 6}, kind="end"),
        event(6.001, step=6, metrics={}, data_slice=seen),
    ]
    check(RUN, events)


def test_the_run() -> None:
    """The first event tells of the run: when it began, with which seed, trainer and code."""
    home = deliver(RUN, [event(1, metrics={"loss": 1})])
    first = next(WandbAdapter(home.source).events())
    told = {
        "run_id": "rosy-run",
        "git_sha": "abc123",
        "trainer": "GRPOTrainer",
        "phase": "train",
        "segment": 0,
        "name": "rosy-run",
    }
    project = first.model_info.pop("project")
    assert (first.kind, first.time, first.rng, first.model_info) == ("run", RUN.time, {"seed": 42}, told)
    assert project


def test_an_event_sent_twice() -> None:
    """An event that reached W&B twice, as after a lost acknowledgement, is read once."""
    events = [event(seq, metrics={"loss": seq}) for seq in (1, 2, 3)]
    sink = WandbSink.create()
    sink.open(RUN)
    sink.send(events)
    assert [e.seq for e in read_back(deliver(RUN, events[1:], sink).source)] == [1, 2, 3]
