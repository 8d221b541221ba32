"""All of the bridge works through a real MLflow server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.event import Event

pytestmark = pytest.mark.real


def test_events_come_back_through_the_page_of_the_run(
    run: Event, event: Callable[..., Event], mlflow_server: str
) -> None:
    """The address of the run's page is a source; broken values survive JSON."""
    values = {"loss": math.nan, "kl": -math.inf, "reward(mean)": 1.5}
    sent = event(1, seq=1, step=1, metrics=values, data_slice={"tokens_in": 10})
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([sent])
    [_, back] = MLflowAdapter(f"{home.url}/model-metrics").events()
    assert (back.step, back.time, back.data_slice) == (sent.step, sent.time, sent.data_slice)
    assert {k: str(v) for k, v in back.metrics.items()} == {k: str(v) for k, v in values.items()}
    assert home.url == f"{mlflow_server}/#/experiments/0/runs/{home.run_id}"


@pytest.mark.usefixtures("mlflow_server")
def test_a_long_backlog_fits(event: Callable[..., Event]) -> None:
    """MLflow takes a thousand metrics a request; a batch may hold more."""
    batch = [event(n, step=n, metrics={f"m{k}": 1.0 for k in range(9)}) for n in range(250)]
    sink = MLflowSink.create()
    home = sink.open(event(kind="run"))
    sink.send(batch)
    assert len(list(MLflowAdapter(home.source).events())) == 251


@pytest.mark.usefixtures("mlflow_server")
def test_close_uploads_and_prints_nothing(
    event: Callable[..., Event], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run is ended and the report is there; MLflow's line about the run's page is not printed."""
    (tmp_path / "report.html").write_text("<p>ok</p>")
    sink = MLflowSink.create()
    home = sink.open(event(kind="run"))
    sink.close("FINISHED", [tmp_path / "report.html"])
    printed = capfd.readouterr()
    client = mlflow.MlflowClient()
    files = {file.path for file in client.list_artifacts(home.run_id, "rldk")}
    assert files == {"rldk/report.html", "rldk/run_0.json"}
    assert client.get_run(home.run_id).info.status == "FINISHED"
    assert printed == ("", "")


@pytest.mark.usefixtures("mlflow_server")
def test_the_line_is_still_printed_for_the_user(
    event: Callable[..., Event], capfd: pytest.CaptureFixture[str]
) -> None:
    """What we silence for ourselves, the user still gets."""
    home = MLflowSink.create().open(event(kind="run"))
    mlflow.MlflowClient().set_terminated(home.run_id)
    assert "View run" in capfd.readouterr().out
