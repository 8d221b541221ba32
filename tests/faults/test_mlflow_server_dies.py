"""A server that is killed in the middle of a run and started again gets all of it."""

from __future__ import annotations

import shutil
from contextlib import suppress

import psutil
import pytest

from rldk_mlflow.sink import MLflowSink
from tests.faults._life import Life

pytestmark = pytest.mark.real


def is_named(process, word):
    """Whether a process was started with this word; one that has just ended was not."""
    with suppress(psutil.NoSuchProcess):
        return word in process.cmdline()
    return False


def kill(address):
    """Kill a server that this process has started, and its workers."""
    port = address.rpartition(":")[2]
    for process in psutil.Process().children(recursive=True):
        if is_named(process, port):
            for each in [process, *process.children(recursive=True)]:
                each.kill()
            return


def test_killed_and_started_again(
    mlflow_through_proxy, serve_mlflow, empty_mlflow_db, tmp_path, made_whole, monkeypatch
):
    """What it had not yet written is sent again."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    with serve_mlflow(tmp_path / "mlflow.db") as address:
        proxy = mlflow_through_proxy(address)
        run = Life(tmp_path / "rldk", [MLflowSink.create()])
        run.log(50)
        run.arrive()
        run.log(50)
        kill(address)
        proxy.down()
    run.log(50)
    run.await_failure()
    with serve_mlflow(tmp_path / "mlflow.db") as address:
        proxy.upstream = address.removeprefix("http://")
        proxy.up()
        run.log(50)
        run.arrive()
        report = run.end()
        made_whole(run)
    assert (report.delivered, report.waiting, report.is_closed) == (202, 0, True)
