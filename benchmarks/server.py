"""Where do points go: a real `mlflow server`, what its database holds, and a port without a server."""

from __future__ import annotations

import http.client
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_QUIET: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_READY_S: Final = 120.0


@contextmanager
def serving(database: Path, *, workers: int = 1) -> Iterator[str]:
    """Run a server on a SQLite file; give its address."""
    port, folder = unused_port(), database.parent
    store = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder)]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", str(workers), "--port", str(port)]
    command += store
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=os.environ | _QUIET, stdout=log, stderr=log) as server,  # noqa: S603  # our own
    ):
        try:
            _wait_until_ready(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def points(database: Path, run_id: str) -> int:
    """Count the metric rows of a run in the server's own file, but for RLDK's count of broken values."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        query = "SELECT COUNT(*) FROM metrics WHERE run_uuid = ? AND key != 'rldk/health/nonfinite_count'"
        return int(connection.execute(query, (run_id,)).fetchone()[0])


def _wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _READY_S
    while server.poll() is None and time.monotonic() < end:
        if _is_healthy(port):
            return
        time.sleep(0.1)
    raise RuntimeError("mlflow server did not start")


def _is_healthy(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
