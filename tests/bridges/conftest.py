"""What the tests of the MLflow bridge share: a store, a server, and events."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from rldk.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

BEGAN = 1763847600.123
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@pytest.fixture
def event() -> Callable[..., Event]:
    """Build an event of one run, which is no other test's; `at` is seconds since the run began."""
    run_id = f"run-{uuid.uuid4().hex[:8]}"

    def build(at: float = 0.0, **fields: Any) -> Event:  # any field of Event
        told = {"run_id": run_id, "git_sha": "abc123", "phase": "train", "segment": 0}
        defaults: dict[str, Any] = {
            "step": 0,
            "metrics": {},
            "data_slice": {},
            "rng": {"seed": 42},
            "notes": [],
        }
        model_info = told | fields.pop("model_info", {})
        when = {"time": round(BEGAN + at, 3), "wall_time": round(at, 3)}
        return Event(**defaults | when | {"model_info": model_info} | fields)

    return build


@pytest.fixture
def run(event: Callable[..., Event]) -> Event:
    """The event that begins the run."""
    return event(kind="run", model_info={"trainer": "GRPOTrainer"})


@pytest.fixture(scope="session")
def empty_mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: to migrate one takes seconds, to copy it none."""
    folder = tmp_path_factory.mktemp("mlflow")
    made = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{folder}/empty.db')"
    subprocess.run([sys.executable, "-c", made], check=True, cwd=folder, env=os.environ | QUIET)
    return folder / "empty.db"


@pytest.fixture
def mlflow_db(empty_mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a database that MLflow is configured to use."""
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    yield from _configured(uri, monkeypatch)


@pytest.fixture
def mlflow_server(_mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that MLflow is configured to use."""
    yield from _configured(_mlflow_server, monkeypatch)


def _configured(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield uri
    sys.modules["mlflow"].end_run() if "mlflow" in sys.modules else None


@pytest.fixture(scope="session")
def _mlflow_server(
    empty_mlflow_db: Path,
    tmp_path_factory: pytest.TempPathFactory,
    serve_mlflow: Callable[[Path], AbstractContextManager[str]],
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    with serve_mlflow(folder / "mlflow.db") as address:
        yield address


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch, free_port: int) -> str:
    """The address of a server that is not there, and that MLflow is configured to use."""
    uri = f"http://127.0.0.1:{free_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri
