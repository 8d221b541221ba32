"""A server that goes and comes, or a run that is deleted on the way, costs no event that it could hold."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from rldk.errors import SinkClosedError
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rldk.event import Event


@pytest.fixture
def serve(
    serve_mlflow: Callable[..., AbstractContextManager[str]],
    empty_mlflow_db: Path,
    free_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], AbstractContextManager[str]]:
    """Start a server, on the same port and database each time."""
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    monkeypatch.setitem(serve_mlflow.__wrapped__.__globals__, "unused_port", lambda: free_port)
    return lambda: serve_mlflow(tmp_path / "mlflow.db")


@pytest.mark.real
def test_a_server_that_restarts_gets_the_rest(
    run: Event,
    event: Callable[..., Event],
    serve: Callable[[], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same sink goes on where it was; what was sent twice is there once."""
    first, second = (event(n, seq=n, step=n, metrics={"loss": float(n)}) for n in (1, 2))
    with serve() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        sink = MLflowSink.create()
        home = sink.open(run)
        sink.send([first])
    with pytest.raises(MlflowException, match="failed"):
        sink.send([first, second])
    with serve():
        sink.send([first, second])
        assert [e.step for e in MLflowAdapter(home.source).events()] == [0, 1, 2]


@pytest.mark.parametrize("store", ["mlflow_db", "mlflow_server"])
def test_a_run_that_is_deleted_and_restored_goes_on(
    run: Event, event: Callable[..., Event], store: str, request: pytest.FixtureRequest
) -> None:
    """While it is deleted, sending and closing are refused for good; a new start finds it restored."""
    request.getfixturevalue(store)
    sink = MLflowSink.create()
    home = sink.open(run)
    client = mlflow.MlflowClient()
    client.delete_run(home.run_id)
    with pytest.raises(SinkClosedError, match=f"run {home.run_id}: .*; check"):
        sink.send([event(1, step=1, metrics={"loss": 1.0})])
    with pytest.raises(SinkClosedError, match=f"run {home.run_id}: .*; check"):
        sink.close("FINISHED", [])
    client.restore_run(home.run_id)
    again = MLflowSink.create()
    assert again.open(run) == home
    again.send([event(1, step=1, metrics={"loss": 1.0})])
    assert client.get_run(home.run_id).data.metrics["rldk/loss"] == 1.0
