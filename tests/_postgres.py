"""A real PostgreSQL server of the tests' own: on a free port of 127.0.0.1, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 60


def programs() -> Path | None:
    """The folder of the newest PostgreSQL server that is installed; Debian keeps it off the path."""
    found = shutil.which("initdb")
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else known[-1].parent if known else None


class Postgres:
    """A running server.

    Args:
        binaries: Where its programs are.
        port: Where it listens.
    """

    def __init__(self, binaries: Path, port: int) -> None:
        self._binaries = binaries
        self._port = port

    def database(self) -> str:
        """Make a database; gives its URL as SQLAlchemy takes it, with the driver of `psycopg2-binary`."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-U", "postgres", name)
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self._port}/{name}"

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self._run("pg_isready", is_checked=False) == 0

    def _run(self, program: str, *arguments: str, is_checked: bool = True) -> int:
        where = ("-h", "127.0.0.1", "-p", str(self._port))
        command = [str(self._binaries / program), *where, *arguments]
        return subprocess.run(command, check=is_checked, stdout=subprocess.DEVNULL).returncode


@contextmanager
def serving(binaries: Path) -> Iterator[Postgres]:
    """Run a server whose data is gone afterwards; nothing of it waits for the disk."""
    # Not below pytest's own folder: the user that the server runs as may not enter it
    folder, port = Path(tempfile.mkdtemp(prefix="rldk-postgres-")), _unused_port()
    as_user = _unprivileged(folder)
    making = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
    settings = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "listen_addresses=127.0.0.1"]
    command = [binaries / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, *settings]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": folder} | as_user
    try:
        subprocess.run([*making, "-E", "UTF8", "--locale=C"], check=True, **quiet)
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, **quiet) as server:
            try:
                yield _ready(Postgres(binaries, port), server, folder / "log")
            finally:
                server.send_signal(signal.SIGINT)  # to others it would wait for its clients
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ready(postgres: Postgres, server: subprocess.Popen[bytes], log: Path) -> Postgres:
    deadline = time.monotonic() + READY_S
    while server.poll() is None and time.monotonic() < deadline:
        if postgres.is_ready():
            return postgres
        time.sleep(0.1)
    message = f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}"
    raise RuntimeError(message)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """As whom to run it: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
