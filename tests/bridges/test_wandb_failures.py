"""What goes wrong with W&B is told apart: refused for good, or worth another try."""

from __future__ import annotations

import importlib.util
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import wandb

from rldk.errors import MissingDependencyError, RLDKError, SinkClosedError
from rldk_wandb import own
from rldk_wandb import sink as sink_module
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    event,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

EVENTS = [event(i, metrics={"loss": i}) for i in range(1, 4)]


def test_disabled_is_refused(monkeypatch):
    """With WANDB_MODE=disabled nothing would be kept: the sink says so instead of pretending."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(SinkClosedError, match="WANDB_MODE"):
        WandbSink.create().open(RUN)
    assert wandb.run is None


def test_it_never_asks_at_the_terminal(monkeypatch):
    """Without an API key the run does not open, and the script's terminal is not asked for one."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr("wandb.errors.term.can_use_terminput", lambda: True)
    monkeypatch.setattr(
        "wandb.sdk.lib.wbauth.prompt.prompt_and_save_api_key", lambda *_, **__: pytest.fail("asked")
    )
    with pytest.raises(RLDKError, match="wandb login"):
        WandbSink.create().open(RUN)


def test_a_failed_open_can_be_tried_again(monkeypatch):
    """When the server is back, the same sink opens the same run: W&B no longer holds the id for taken."""
    sink = WandbSink.create()
    monkeypatch.setattr(own, "PATIENCE_S", 1.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with server_that_only_logs_in() as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        with pytest.raises(wandb.errors.CommError):
            sink.open(RUN)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert sink.open(RUN).run_id == "rosy-run"
    sink.close("FINISHED", [])


@contextmanager
def server_that_only_logs_in():
    """A W&B server on loopback that knows the user, and fails at all else."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            known = b"query Viewer" in asked
            body = (
                b'{"data": {"viewer": {"id": "VXNlcjox", "username": "u", "entity": "u"}}}'
                if known
                else b"{}"
            )
            self.send_response(200 if known else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_wandb_still_holds_a_failed_id(monkeypatch):
    """The quirk that the sink copes with; when this fails, it need no longer restart wandb-core."""
    monkeypatch.setattr(own, "_forget_failed_init", lambda: None)
    with pytest.raises(Exception, match="rosy-run is in use"):
        test_a_failed_open_can_be_tried_again(monkeypatch)


def test_a_broken_batch_goes_on_where_it_broke(tmp_path):
    """When a batch fails in its middle, the next try does not log the first half twice."""
    sink = WandbSink.create()
    sink.open(RUN)
    sink._run = FailingOnce(sink._run, at="rldk/loss", value=2)
    with pytest.raises(ConnectionError):
        sink.send(EVENTS)
    sink.send(EVENTS)
    sink.close("FINISHED", [])
    rows = list(WandbFile(wandb_file(tmp_path)).rows())
    assert [row["rldk/loss"] for row in rows] == [1, 2, 3]


class FailingOnce:
    """A run whose log fails once, at one value."""

    def __init__(self, run, at, value):
        self._run, self._fault = run, (at, value)

    def __getattr__(self, name):
        return getattr(self._run, name)

    def log(self, row):
        """Fail, or log."""
        if self._fault in row.items():
            self._fault = None
            raise ConnectionError
        self._run.log(row)


def test_wandb_must_be_installed(monkeypatch):
    """Without wandb the sink says what to install; a folder named wandb/ does not deceive it."""
    monkeypatch.setattr(sink_module, "find_spec", lambda _: importlib.machinery.ModuleSpec("wandb", None))
    with pytest.raises(MissingDependencyError, match=r"rldk\[wandb\]"):
        WandbSink.create()
