"""One request, one answer: the status of a server decides what the delivery does next."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from mlflow.exceptions import MlflowException

from rldk.errors import SinkClosedError, SinkRejectedError
from rldk_mlflow import client
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk.event import Event


class Stub(ThreadingHTTPServer):
    """A server that gives every request the same status, and counts them."""

    status = 200
    asked = 0


class Answer(BaseHTTPRequestHandler):
    """The answer."""

    server: Stub

    def do_POST(self) -> None:
        """Give the status."""
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Retry-After", "60")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server of the kind."""
    with Stub(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, SinkRejectedError),
        (401, SinkClosedError),
        (403, SinkClosedError),
        (404, SinkClosedError),
        (408, MlflowException),
        (429, MlflowException),
        (500, MlflowException),
        (503, MlflowException),
    ],
)
def test_a_status_is_final_or_worth_another_try(
    event: Callable[..., Event], stub: Stub, status: int, error: type[Exception]
) -> None:
    """MLflow asks once, heeds no Retry-After of a minute, and the delivery hears what came of it."""
    uri = f"http://127.0.0.1:{stub.server_port}"
    sink = MLflowSink(uri, "feed")
    sink._client = client.connect(uri)
    stub.status = status
    with pytest.raises(error):
        sink.send([event(1, step=1, metrics={"loss": 1.0})])
    assert stub.asked == 1
