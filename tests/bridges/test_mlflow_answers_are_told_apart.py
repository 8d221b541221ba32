"""One request, one answer: the status of a server decides what the delivery does next."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils import request_utils, rest_utils

from rldk.errors import SinkBusyError, SinkClosedError, SinkRejectedError
from rldk_mlflow import client
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk.event import Event


HTML = b"<html>Bad gateway</html>"


class Stub(ThreadingHTTPServer):
    """A server that gives every request the same answer, and counts them."""

    status = 200
    retry_after = ""
    body = b""
    missing = 0
    asked = 0


class Answer(BaseHTTPRequestHandler):
    """The answer."""

    server: Stub

    def do_POST(self) -> None:
        """Give it."""
        self.server.asked += 1
        self.send_response(self.server.status)
        if self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.missing))
        self.end_headers()
        self.wfile.write(self.server.body)

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


@pytest.fixture
def send(stub: Stub, event: Callable[..., Event]) -> Callable[[], None]:
    """Send one event to that server."""

    def send() -> None:
        uri = f"http://127.0.0.1:{stub.server_port}"
        sink = MLflowSink(uri, "feed")
        sink._client = client.connect(uri)
        sink.send([event(1, step=1, metrics={"loss": 1.0})])

    return send


@pytest.mark.parametrize("body", [b"", HTML, b'{"message": "no"}'])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, SinkClosedError),
        (403, SinkClosedError),
        (408, MlflowException),
        (413, SinkRejectedError),
        (429, MlflowException),
        (500, MlflowException),
        (502, MlflowException),
        (503, MlflowException),
        (504, MlflowException),
    ],
)
def test_a_status_is_final_or_worth_another_try(
    send: Callable[[], None], stub: Stub, status: int, body: bytes, error: type[Exception]
) -> None:
    """MLflow asks once, and the delivery hears what came of it, whoever wrote the answer's body."""
    stub.status, stub.body = status, body
    with pytest.raises(error):
        send()
    assert stub.asked == 1


@pytest.mark.parametrize(("status", "error"), [(400, SinkRejectedError), (404, SinkClosedError)])
def test_a_refusal_is_of_the_events_or_of_the_run(
    send: Callable[[], None], stub: Stub, status: int, error: type[Exception]
) -> None:
    """What was sent is bad, or the run is not there."""
    stub.status = status
    with pytest.raises(error):
        send()
    assert stub.asked == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_lack_of_credentials_says_which(send: Callable[[], None], stub: Stub, status: int) -> None:
    """The error names the variables to check."""
    stub.status = status
    with pytest.raises(SinkClosedError, match=r"run feed: .*; check MLFLOW_TRACKING_USERNAME"):
        send()


def in_a_minute() -> str:
    """The date form of the header."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=60.5), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["60", " 60 ", in_a_minute])
def test_a_pause_that_is_asked_for_is_passed_on(
    send: Callable[[], None], stub: Stub, status: int, retry_after: str | Callable[[], str]
) -> None:
    """Retry-After, in seconds or as a date, becomes SinkBusyError; nobody waits here."""
    stub.status = status
    stub.retry_after = retry_after if isinstance(retry_after, str) else retry_after()
    with pytest.raises(SinkBusyError, match=rf"answers {status}") as busy:
        send()
    assert busy.value.retry_after_s == pytest.approx(60, abs=2)
    assert stub.asked == 1


def test_a_date_that_is_over_asks_for_no_pause(send: Callable[[], None], stub: Stub) -> None:
    """The clocks of two machines differ."""
    stub.status, stub.retry_after = 429, "Wed, 21 Oct 2015 07:28:00 GMT"
    with pytest.raises(SinkBusyError) as busy:
        send()
    assert busy.value.retry_after_s == 0


@pytest.mark.parametrize("retry_after", ["soon", "-5", "1.5.2", "", "\u00b2"])
def test_a_pause_that_is_none_is_left_to_the_delivery(
    send: Callable[[], None], stub: Stub, retry_after: str
) -> None:
    """The ordinary backoff applies."""
    stub.status, stub.retry_after = 429, retry_after
    with pytest.raises(MlflowException, match="429"):
        send()


def test_where_mlflow_asks_in_another_way_nothing_is_lost(
    send: Callable[[], None], stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the function through which we listen, a 429 is a failure like any other."""
    monkeypatch.setattr(client, "_ASK", "no_such_function")
    monkeypatch.setattr(
        rest_utils, "_get_http_response_with_retries", request_utils._get_http_response_with_retries
    )
    stub.status, stub.retry_after = 429, "60"
    with pytest.raises(MlflowException, match="429"):
        send()


def test_the_users_own_requests_are_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the leash MLflow's function gets what MLflow gave it."""
    seen: list[dict[str, object]] = []
    with client.leash():
        listening = rest_utils._get_http_response_with_retries
    monkeypatch.setattr(listening, "_ask", lambda *_, **given: seen.append(given))
    listening("POST", "url", raise_on_status=True)
    assert seen == [{"raise_on_status": True}]


def test_half_an_answer_is_worth_another_try(send: Callable[[], None], stub: Stub) -> None:
    """The connection ends before the length that was announced."""
    stub.body, stub.missing = b'{"run"', 100
    with pytest.raises(MlflowException, match="IncompleteRead") as cut:
        send()
    assert not client.is_final(cut.value)


def test_a_page_instead_of_an_answer_is_worth_another_try(send: Callable[[], None], stub: Stub) -> None:
    """A proxy that shows its login with status 200 has stored nothing."""
    stub.body = HTML
    with pytest.raises(MlflowException, match="not in a valid JSON format"):
        send()
