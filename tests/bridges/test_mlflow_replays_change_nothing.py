"""Sending the same events again leaves the MLflow run as it was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")


def test_a_batch_sent_twice_is_there_once(run: Event, event: Callable[..., Event]) -> None:
    """A retry after a lost answer adds no point, NaN and infinity included."""
    sink = MLflowSink.create()
    home = sink.open(run)
    batch = [event(n, step=n, metrics={"loss": value}) for n, value in enumerate([1.0, math.nan, math.inf])]
    sink.send(batch)
    sink.send(batch)
    assert len(mlflow.MlflowClient().get_metric_history(home.run_id, "rldk/loss")) == 3


def test_duplicates_in_a_store_are_read_once(
    run: Event, event: Callable[..., Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a store kept a point twice, the adapter gives one event and reports no problem."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": math.nan})])
    once = mlflow.MlflowClient.get_metric_history
    monkeypatch.setattr(mlflow.MlflowClient, "get_metric_history", lambda *asked: [*once(*asked)] * 2)
    adapter = MLflowAdapter(home.source)
    assert [len(e.metrics) for e in adapter.events()] == [0, 1]
    assert adapter.problems == []


def test_two_values_at_one_time_are_reported(run: Event, event: Callable[..., Event]) -> None:
    """A contradiction is no duplicate: one value is kept, and `problems` says so."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0}), event(1, step=1, metrics={"loss": 2.0})])
    adapter = MLflowAdapter(home.source)
    assert len(list(adapter.events())) == 2
    assert [problem.split()[0] for problem in adapter.problems] == ["rldk/loss"]
