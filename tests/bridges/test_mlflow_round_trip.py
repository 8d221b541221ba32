"""What the MLflow sink writes, the MLflow adapter reads back: beyond the law, of which tests/law is."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import pytest

from rldk.ingest import ingest_runs
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")


def through_mlflow(run: Event, events: Sequence[Event]) -> list[Event]:
    """Send the events to a run and read them back, without the one that tells of the run."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send(events)
    return list(MLflowAdapter(home.source).events())[1:]


def test_every_field_that_mlflow_keeps_comes_back(run: Event, event: Callable[..., Event]) -> None:
    """Metrics, what data_slice counts, step, times and identity survive."""
    sent = event(100.5, seq=1, step=10, metrics={"loss": 0.25}, data_slice={"tokens_in": 1000})
    assert through_mlflow(run, [sent]) == [sent]


def test_the_run_event_comes_first(run: Event, event: Callable[..., Event]) -> None:
    """The first event tells of the run what its tags do."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0})])
    first = next(MLflowAdapter(home.source).events())
    assert (first.kind, first.run_id, first.rng, first.time) == ("run", run.run_id, {"seed": 42}, run.time)
    assert first.model_info["trainer"] == "GRPOTrainer"


def test_phases_of_one_millisecond_are_told_apart(run: Event, event: Callable[..., Event]) -> None:
    """Two events with one time are split by what they are, should someone write them so."""
    train = event(1, step=1, metrics={"loss": 1.0})
    evaluation = event(1, step=1, metrics={"loss": 2.0}, model_info={"phase": "eval"})
    back = through_mlflow(run, [train, evaluation])
    assert {e.phase: e.metrics for e in back} == {"train": {"loss": 1.0}, "eval": {"loss": 2.0}}


def test_the_largest_float_is_a_declared_loss(run: Event, event: Callable[..., Event]) -> None:
    """Databases cannot tell it from infinity; the day they can, the loss is no more."""
    [back] = through_mlflow(run, [event(1, step=1, metrics={"x": sys.float_info.max})])
    assert back.metrics == {"x": math.inf}
    assert any("largest float" in loss for loss in MLflowSink.losses)


def test_events_without_numbers_do_not_come_back(run: Event, event: Callable[..., Event]) -> None:
    """A note alone leaves no trace; that is declared."""
    kept = event(2, seq=1, step=2, metrics={"loss": 1.0})
    assert through_mlflow(run, [event(1, step=1, notes=["High clipping"]), kept]) == [kept]


def test_a_run_without_tags_is_still_read(run: Event, event: Callable[..., Event]) -> None:
    """A run whose rldk tags were removed is named by MLflow's own id."""
    import mlflow  # this test alone needs it

    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0})])
    for tag in mlflow.MlflowClient().get_run(home.run_id).data.tags:
        if tag.startswith("rldk."):
            mlflow.MlflowClient().delete_tag(home.run_id, tag)
    assert {e.run_id for e in MLflowAdapter(home.source).events()} == {home.run_id}


def test_a_run_that_has_only_begun_is_an_empty_one(run: Event) -> None:
    """As its journal is: it was killed before its first step, or has not come to it."""
    assert through_mlflow(run, []) == []
    assert ingest_runs(MLflowSink.create().open(run).source).empty
