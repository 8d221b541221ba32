"""A metric that broke is seen on MLflow's run page, although MLflow hides it."""

from __future__ import annotations

import json
import math
import urllib.request
from typing import TYPE_CHECKING

import pytest

from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

PAGE_QUERY = "query($id: String){mlflowGetRun(input: {runId: $id}){run{data{metrics{key value}}}}}"


def on_the_run_page(server: str, run_id: str) -> dict[str, float | None]:
    """Ask what MLflow's run page asks."""
    body = json.dumps({"query": PAGE_QUERY, "variables": {"id": run_id}}).encode()
    asked = urllib.request.Request(f"{server}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:  # loopback
        metrics = json.load(answer)["data"]["mlflowGetRun"]["run"]["data"]["metrics"]
    return {metric["key"]: metric["value"] for metric in metrics}


@pytest.mark.real
def test_a_count_stands_in_for_what_the_page_hides(
    run: Event, event: Callable[..., Event], mlflow_server: str
) -> None:
    """The value of a NaN metric is null on the page (mlflow issue 16555); the count is not.

    The day this fails on the null, MLflow has mended it and the count can go.
    """
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": math.nan, "kl": math.inf, "lr": 0.1})])
    shown = on_the_run_page(mlflow_server, home.run_id)
    assert shown["rldk/loss"] is None
    assert shown["rldk/health/nonfinite_count"] == 2


@pytest.mark.usefixtures("mlflow_db")
def test_the_count_is_not_read_back(run: Event, event: Callable[..., Event]) -> None:
    """It is a help for MLflow's page, no fact of the run."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0}), event(2, kind="resource", metrics={"ram": 1.0})])
    names = [set(e.metrics) for e in MLflowAdapter(home.source).events()]
    assert names == [set(), {"loss"}, {"ram"}]
