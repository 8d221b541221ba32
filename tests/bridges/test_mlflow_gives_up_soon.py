"""A server that does not answer costs seconds, and the user's own MLflow calls keep their limits."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException

from rldk.errors import SourceError
from rldk_mlflow import client
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk.event import Event

SOON_S = 5


@pytest.fixture
def clock() -> Iterator[None]:
    """Fail where a test took longer than soon."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON_S


@pytest.fixture
def hung_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes requests and answers none, and a user who waits a second for it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.mark.usefixtures("clock", "dead_server")
def test_open_raises_where_nobody_listens(run: Event) -> None:
    """MLflow's own retries, four minutes of them, are not waited for."""
    with pytest.raises(MlflowException, match="failed"):
        MLflowSink.create().open(run)


@pytest.mark.usefixtures("clock", "hung_server")
def test_open_raises_where_nobody_answers(run: Event) -> None:
    """The user's MLFLOW_HTTP_REQUEST_TIMEOUT is the limit, once instead of eight times."""
    with pytest.raises(MlflowException, match="timeout"):
        MLflowSink.create().open(run)


@pytest.mark.usefixtures("clock", "mlflow_db")
def test_send_raises_where_the_server_has_gone(
    run: Event, event: Callable[..., Event], dead_server: str, mlflow_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage in mid-run is an exception, soon."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_db)
    sink = MLflowSink.create()
    sink.open(run)
    with client.leash():
        sink._client = client.connect(dead_server)
    with pytest.raises(MlflowException, match="failed"):
        sink.send([event(1, step=1, metrics={"loss": 1.0})])


@pytest.mark.usefixtures("clock")
def test_a_database_server_that_is_gone_is_noticed(run: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would try for a hundred seconds to reach it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:secret@127.0.0.1:1/mlflow")
    with pytest.raises(OSError, match="refused"):
        MLflowSink.create().open(run)


@pytest.mark.usefixtures("clock")
def test_reading_from_a_dead_server_says_what_to_do(dead_server: str) -> None:
    """The adapter's error names the source, the server and why, in few words, and a next step."""
    with pytest.raises(SourceError) as caught:
        list(MLflowAdapter(f"{dead_server}#runs/abc").events())
    why = f"{dead_server} cannot be reached: Connection refused; check that the tracking server runs"
    assert str(caught.value) == f"cannot read {dead_server}#runs/abc: {why}, then try again"


def test_other_threads_keep_their_limits() -> None:
    """While we wait briefly, the user's calls wait as long as ever."""
    seen: list[object] = []

    def look() -> None:
        seen.append((MLFLOW_HTTP_REQUEST_MAX_RETRIES.get(), MLFLOW_HTTP_REQUEST_TIMEOUT.get()))

    with client.leash():
        look()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    look()
    assert seen == [(0, (client.CONNECT_S, client.ANSWER_S)), (7, 120), (7, 120)]


def test_a_worst_case_open_stays_below_ten_seconds() -> None:
    """To connect and to wait for an answer, with nothing set by the user."""
    assert client.CONNECT_S + client.ANSWER_S < 10
