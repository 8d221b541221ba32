"""A proxy on loopback in front of a real MLflow server, which does wrong what it is told to."""

from __future__ import annotations

import http.client
import math
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Fault = Callable[["_Handler"], None]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset


def answers(status: int, body: bytes = b"{}", **headers: str) -> Fault:
    """Answer so, without asking the server."""

    def fault(asked: _Handler) -> None:
        asked.answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)

    return fault


def garbage(asked: _Handler) -> None:
    """Answer 200 with a page, as a captive portal does."""
    asked.answer(200, {"Content-Type": "text/html"}, b"<html><body>Please log in</body></html>")


def half(asked: _Handler) -> None:
    """Let the server do it, and break off in the middle of its answer."""
    status, headers, body = asked.forwarded()
    asked.answer(status, headers, body + b" " * 64, cut=len(body) // 2)


def lost(asked: _Handler) -> None:
    """Let the server do it, and reset the connection in place of its answer."""
    asked.forwarded()
    asked.reset()


def resets(asked: _Handler) -> None:
    """Reset the connection before the server hears of it."""
    asked.reset()


def hangs(asked: _Handler) -> None:
    """Never answer, until the proxy is healed."""
    asked.server.proxy.healed.wait()
    asked.reset()


def slow(seconds: float) -> Fault:
    """Let the server do it, late."""

    def fault(asked: _Handler) -> None:
        asked.server.proxy.healed.wait(seconds)
        asked.answer(*asked.forwarded())

    return fault


@dataclass
class _Rule:
    fault: Fault
    path: str
    skip: int
    times: float


class Proxy:
    """The proxy.

    Attributes:
        port: Where it listens, the same after `down` and `up`.
        upstream: Host and port of the server.
        asked: The paths of all requests, in order.
        hit: How many requests met a fault.
        healed: Set while nothing is wrong.
    """

    def __init__(self, upstream: str) -> None:
        self.port = 0
        self.upstream = upstream.removeprefix("http://")
        self.asked: list[str] = []
        self.hit = 0
        self.healed = threading.Event()
        self.healed.set()
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def fault(self, fault: Fault, path: str = "", *, skip: int = 0, times: float = math.inf) -> None:
        """Have the requests with this in their path go wrong, so many of them, after the first few."""
        self.healed.clear()
        with self._lock:
            self._rules.append(_Rule(fault, path, skip, times))

    def heal(self) -> None:
        """Let everything go well from now on; what hangs is let go."""
        with self._lock:
            self._rules.clear()
        self.healed.set()
        self.up()

    def up(self) -> None:
        """Listen."""
        if self._server is None:
            self._server = _Server(self.port, self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and break those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.break_connections()

    def due(self, path: str) -> Fault | None:
        """The fault that a request meets."""
        with self._lock:
            self.asked.append(path)
            for rule in self._rules:
                if rule.path in path and rule.times > 0:
                    if rule.skip > 0:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    self.hit += 1
                    return rule.fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, proxy: Proxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""

    def break_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.due(self.path)
        if fault is None:
            self.answer(*self.forwarded())
        else:
            fault(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # http.server looks for these

    def forwarded(self) -> tuple[int, dict[str, str], bytes]:
        """The server's answer."""
        connection = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, self._body, dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            return 502, {}, b"the server is gone"
        finally:
            connection.close()
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        return answer.status, kept, body

    def answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: int | None = None) -> None:
        """Answer, wholly or only the first bytes of the body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.close_connection |= cut is not None

    def reset(self) -> None:
        """Break the connection without a word."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})
