"""A new SQLite database of MLflow is whole or not there, whenever the process that makes it is killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from rldk.bridge import Target
from rldk.errors import SinkClosedError
from rldk_mlflow.sink import MLflowSink

pytestmark = pytest.mark.real

OPEN = """
import sys
from rldk.event import Event
from rldk_mlflow.sink import MLflowSink
fields = {"step": 0, "wall_time": 0.0, "metrics": {}, "rng": {}, "data_slice": {}, "notes": []}
MLflowSink.create().open(Event(kind="run", time=1.0, model_info={"run_id": "r", "phase": "train"}, **fields))
"""


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A database that is not there yet."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path / "mlflow.db"


def opened(folder):
    """A process that opens a run in the database."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OPEN], cwd=folder, stderr=subprocess.DEVNULL
    )


def test_killed_in_the_middle(database, tmp_path):
    """What is half made has no name yet, and the next process makes it anew."""
    with opened(tmp_path) as process:
        while not (parts := list(tmp_path.glob(".mlflow.db.*.part"))) or not parts[0].stat().st_size:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not database.exists()
    with opened(tmp_path) as process:
        assert process.wait() == 0
    with sqlite3.connect(database) as made:
        assert made.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    made.close()


def test_two_at_once(database, tmp_path):
    """One of the two databases is taken, and both runs are in it."""
    with opened(tmp_path) as one, opened(tmp_path) as other:
        assert (one.wait(), other.wait()) == (0, 0)
    assert list(tmp_path.glob(".mlflow.db*")) == []


def test_what_mlflow_itself_left_half_made_is_named(database, make_event):
    """It is no use to try again: the remedy is said at once."""
    with sqlite3.connect(database) as half:
        half.execute("CREATE TABLE issues (id INTEGER)")
    half.close()
    run = make_event(kind="run", step=0)
    with pytest.raises(SinkClosedError, match=r"holds a part of MLflow's tables.*move it away"):
        MLflowSink.create(Target()).open(run)
