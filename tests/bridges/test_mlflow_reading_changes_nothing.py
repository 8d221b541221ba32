"""Reading neither creates, fills nor migrates what it reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk.errors import SourceError
from rldk_mlflow.adapter import MLflowAdapter

if TYPE_CHECKING:
    from pathlib import Path

    from rldk.event import Event


def fails(uri: str, why: str) -> None:
    """Read a run there, and see the error that says why not."""
    with pytest.raises(SourceError, match=why):
        list(MLflowAdapter(f"{uri}#runs/feed").events())


@pytest.mark.parametrize("scheme", ["sqlite:///", "file://"])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, scheme: str) -> None:
    """A mistyped path is an error, no empty store."""
    fails(f"{scheme}{tmp_path}/none", "there is no")
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    """MLflow would put forty tables into it."""
    with closing(sqlite3.connect(tmp_path / "mine.db")) as mine:
        mine.execute("create table mine (x)")
        mine.commit()
    before = (tmp_path / "mine.db").read_bytes()
    fails(f"sqlite:///{tmp_path}/mine.db", "not that of MLflow")
    assert (tmp_path / "mine.db").read_bytes() == before


@pytest.mark.parametrize("version", ["5d2d30f0abce", "f4a9b2c7d1e6"])
def test_a_database_of_another_version_is_read_and_not_migrated(
    mlflow_db: str, tmp_path: Path, version: str
) -> None:
    """MLflow would refuse a newer one, and change an older one; the tables are the same."""
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    mlflow.MlflowClient().log_metric(run_id, "loss", 1.0)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.execute("update alembic_version set version_num = ?", [version])
        store.commit()
    before, files = (tmp_path / "mlflow.db").read_bytes(), set(tmp_path.iterdir())
    assert [e.metrics for e in MLflowAdapter(f"{mlflow_db}#runs/{run_id}").events()] == [{}, {"loss": 1.0}]
    assert ((tmp_path / "mlflow.db").read_bytes(), set(tmp_path.iterdir())) == (before, files)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    """Any text file will do."""
    (tmp_path / "notes.db").write_text("no database at all, but long enough to look at" * 50)
    fails(f"sqlite:///{tmp_path}/notes.db", "not a database")


def test_an_unknown_run_is_an_error(mlflow_db: str) -> None:
    """The run id is in the message."""
    fails(mlflow_db, "feed.*not found")


def test_a_run_without_metrics_is_an_error(mlflow_db: str) -> None:
    """There is nothing to read."""
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    with pytest.raises(SourceError, match=rf"run {run_id} holds no metrics; give"):
        list(MLflowAdapter(f"{mlflow_db}#runs/{run_id}").events())


def test_a_deleted_run_is_an_error(mlflow_db: str) -> None:
    """It is told apart from one that never was, with the command that brings it back."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    with pytest.raises(SourceError, match=f"the run is deleted; .*restore --run-id {run_id}"):
        list(MLflowAdapter(f"{mlflow_db}#runs/{run_id}").events())


def test_an_edited_tag_is_an_error(mlflow_db: str) -> None:
    """A time that is no number is said to be one."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", tags={"rldk.began": "yesterday"}).info.run_id
    client.log_metric(run_id, "rldk/loss", 1.0)
    with pytest.raises(SourceError, match=r"tags was edited: .*yesterday"):
        list(MLflowAdapter(f"{mlflow_db}#runs/{run_id}").events())


def test_reading_is_quiet(mlflow_db: str, run: Event, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", tags={"rldk.run_id": run.run_id}).info.run_id
    client.log_metric(run_id, "rldk/loss", 1.0)
    capfd.readouterr()
    list(MLflowAdapter(f"{mlflow_db}#runs/{run_id}").events())
    assert capfd.readouterr() == ("", "")
