"""What many tests need: an event of which only some fields matter, an MLflow server, a PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from urllib.error import URLError

import pytest
from hypothesis import settings

from rldk.event import Event

settings.register_profile("rldk", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("rldk")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads of torch only wait for one another

QUIET_MLFLOW = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@pytest.fixture(autouse=True)
def _leave_no_experiment():
    """Forget the experiment that a test has set: `mlflow.set_experiment` is for the whole process."""
    yield
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if fluent := sys.modules.get("mlflow.tracking.fluent"):
        fluent._active_experiment_id = None


@pytest.fixture
def make_event():
    """Build an event; the fields that are not given are usual ones."""

    def make(**fields):
        usual = {
            "step": 1,
            "wall_time": 0.0,
            "metrics": {},
            "rng": {},
            "data_slice": {},
            "model_info": {"run_id": "r", "phase": "train", "segment": 0},
            "notes": [],
        }
        return Event(**(usual | fields))

    return make


def unused_port():
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def free_port():
    """A port on which nobody listens."""
    return unused_port()


@pytest.fixture(scope="session")
def serve_mlflow():
    """Run a real `mlflow server`, one worker and no jobs, on a database; files go beside it."""

    @contextmanager
    def serve(database):
        port, folder = unused_port(), database.parent
        store = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder)]
        environment = os.environ | QUIET_MLFLOW
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port), *store]
        with (
            (folder / "server.log").open("wb") as log,
            subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as server,
        ):
            try:
                yield wait_until_ready(f"http://127.0.0.1:{port}", server)
            finally:
                server.terminate()

    return serve


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory):
    """An MLflow database without runs: to migrate one takes seconds, to copy it none."""
    folder = tmp_path_factory.mktemp("mlflow")
    made = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{folder}/empty.db')"
    subprocess.run([sys.executable, "-c", made], check=True, cwd=folder, env=os.environ | QUIET_MLFLOW)
    return folder / "empty.db"


@pytest.fixture
def mlflow_db(empty_mlflow_db, tmp_path, monkeypatch):
    """The URI of a database that MLflow is configured to use."""
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    yield from _configured(uri, monkeypatch)


@pytest.fixture
def mlflow_server(_mlflow_server, monkeypatch):
    """The address of a server that MLflow is configured to use."""
    yield from _configured(_mlflow_server, monkeypatch)


def _configured(uri, monkeypatch):
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)  # what an earlier test has set would go before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield uri
    sys.modules["mlflow"].end_run() if "mlflow" in sys.modules else None


@pytest.fixture(scope="session")
def _mlflow_server(empty_mlflow_db, tmp_path_factory, serve_mlflow):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    with serve_mlflow(folder / "mlflow.db") as address:
        yield address


@pytest.fixture
def mlflow_postgres(_mlflow_postgres, monkeypatch):
    """The URI of a PostgreSQL database that MLflow is configured to use."""
    yield from _configured(_mlflow_postgres, monkeypatch)


@pytest.fixture(scope="session")
def _mlflow_postgres(_postgres_server):
    return _postgres_server.database()


@pytest.fixture
def wandb_backend(tmp_path, monkeypatch):
    """A stand-in of the W&B backend that wandb is configured to use; see tests/_wandb_backend.py."""
    from tests._wandb_backend import WandbBackend, forget_wandb

    backend = WandbBackend()
    backend.up()
    for name, value in backend.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_ENTITY", "WANDB_NAME", "WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.delenv(name, raising=False)
    forget_wandb()
    yield backend
    backend.faults.clear()
    backend.up()  # else wandb-core would wait for it, with what it still has to send
    forget_wandb()
    backend.down()


@pytest.fixture(scope="session")
def _postgres_server():
    from tests import _postgres

    binaries = _postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="no PostgreSQL driver is installed: pip install psycopg2-binary")
    with _postgres.serving(binaries) as server:
        yield server


@pytest.fixture
def postgres(_postgres_server):
    """SQLAlchemy's URL of an empty PostgreSQL database that is this test's own."""
    return _postgres_server.database()


def wait_until_ready(address, server):
    """Wait for a server's /health; gives its address."""
    deadline = time.monotonic() + 90
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return address
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    message = "mlflow server did not start"
    raise RuntimeError(message)
