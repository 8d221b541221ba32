"""A database that is being written, read-only or damaged is read, or the error is clear."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import pytest

from rldk.errors import RLDKError, SourceError
from rldk.ingest import ingest_runs
from rldk_mlflow import sqlite_tables
from rldk_mlflow.adapter import MLflowAdapter

T0 = 1_763_847_600_000
NOBODY = 65534


@pytest.fixture
def database(mlflow_db: str, tmp_path: Path) -> Path:
    """A database in which one run has five losses."""
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", start_time=T0).info.run_id
    for step in range(5):
        client.log_metric(run_id, "loss", float(step), T0 + step, step)
    return tmp_path / "mlflow.db"


def changed(database: Path, *statements: str) -> None:
    """Change it behind MLflow's back."""
    with closing(sqlite3.connect(database)) as store:
        for statement in statements:
            store.execute(statement)
        store.commit()


def losses(database: Path) -> list[float]:
    """The losses of the table."""
    return list(ingest_runs(str(database))["loss"])


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_is_being_written_is_read(database: Path, mode: str) -> None:
    """What is not yet committed is not there yet."""
    with closing(sqlite3.connect(database)) as writer:
        writer.execute(f"PRAGMA journal_mode={mode}")
        writer.execute("UPDATE metrics SET value = 7 WHERE step = 4")
        writer.commit()
        writer.execute("UPDATE metrics SET value = 8 WHERE step = 4")
        assert losses(database) == [0, 1, 2, 3, 7]
        writer.commit()
        assert losses(database) == [0, 1, 2, 3, 8]


def test_a_database_that_stays_locked_is_an_error(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, after a while."""
    monkeypatch.setattr(sqlite_tables, "_PATIENCE_S", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match="database is locked; try again once its writer is done"):
            losses(database)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.skipif(os.geteuid() != 0, reason="a test that becomes somebody else is for root")
def test_a_folder_that_nobody_may_write_is_read(database: Path, mode: str) -> None:
    """Nothing is made beside the file, where one may and where one may not."""
    changed(database, f"PRAGMA journal_mode={mode}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy = folder / "mlflow.db"
        copy.write_bytes(database.read_bytes())
        assert losses(copy) == [0, 1, 2, 3, 4]
        copy.chmod(0o444)
        folder.chmod(0o555)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionError):
                (folder / "made").touch()
            read = losses(copy)
        finally:
            os.seteuid(0)
        assert read == [0, 1, 2, 3, 4]
        assert list(folder.iterdir()) == [copy]


def test_a_file_that_is_no_database_of_mlflow_is_left_to_others(tmp_path: Path) -> None:
    """Whatever is not readable as one, and a folder."""
    (tmp_path / "text.db").write_text("SQLite it is not" * 20)
    (tmp_path / "empty.db").touch()
    changed(tmp_path / "other.db", "CREATE TABLE runs (x)")
    for name in ("text.db", "empty.db", "other.db", "none.db", "a\0b", "x" * 5000, "."):
        assert not MLflowAdapter(str(tmp_path / name)).can_handle()
    with pytest.raises(SourceError, match="schema is not that of MLflow: it has no table experiments"):
        list(MLflowAdapter(f"sqlite:///{tmp_path}/other.db").events())


@pytest.mark.parametrize("size", [50, 1000, 4096, 40_000, 200_000])
def test_a_file_that_was_cut_is_an_error(database: Path, size: int) -> None:
    """It is recognised by what is left of it, and the error is SQLite's."""
    database.write_bytes(database.read_bytes()[:size])
    assert MLflowAdapter(str(database)).can_handle()
    with pytest.raises(SourceError, match=r"SQLite says: .*; check the path, or copy the file anew"):
        list(MLflowAdapter(str(database)).events())


def test_bytes_that_were_overwritten_are_an_error_or_nothing(database: Path) -> None:
    """Anywhere in the file."""
    whole = database.read_bytes()
    for at in range(0, len(whole), len(whole) // 60):
        database.write_bytes(whole[:at] + b"\xff" * 600 + whole[at + 600 :])
        with suppress(RLDKError):
            losses(database)


@pytest.mark.parametrize(
    ("change", "said", "left"),
    [
        ("SET value = 'high' WHERE step = 1", "1 value of 1 metric is no number", [0, 2, 3, 4]),
        ("SET value = x'00' WHERE step < 2", "2 values of 1 metric are no number", [2, 3, 4]),
        ("SET timestamp = 'now' WHERE step = 1", "1 value of 1 metric is no number", [0, 2, 3, 4]),
        ("SET step = 'one' WHERE step = 1", "1 value of 1 metric is no number", [0, 2, 3, 4]),
        ("SET step = 1e300 WHERE step = 1", "1 value of 1 metric is no number", [0, 2, 3, 4]),
        ("SET step = 6.5 WHERE step = 1", "logged at a fraction of a step", [0, 2, 3, 4, 1]),
        ("SET timestamp = timestamp + 0.5", None, [0, 1, 2, 3, 4]),
        ("SET value = 9e999 WHERE step = 1", None, [0, float("inf"), 2, 3, 4]),
    ],
)
def test_what_is_of_a_wrong_type_is_counted(
    database: Path, change: str, said: str | None, left: list[float]
) -> None:
    """SQLite takes anything in any column; the rest of the run is read."""
    changed(database, "PRAGMA ignore_check_constraints = 1", f"UPDATE metrics {change}")
    table = ingest_runs(str(database))
    assert list(table["loss"]) == left
    assert any(said in problem and "loss (" in problem for problem in table.attrs["problems"]) == (
        said is not None
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET start_time = 'soon', end_time = x'ff', status = 7, artifact_uri = NULL, name = NULL",
        "UPDATE latest_metrics SET step = 'last'",
        "INSERT INTO tags SELECT 'odd', x'fffe', run_uuid FROM runs",
        "INSERT INTO params SELECT 'none', '', run_uuid FROM runs",
        "INSERT INTO latest_metrics SELECT 'ghost', 0, 0, 0, 0, run_uuid FROM runs",
        "UPDATE experiments SET name = x'00ff'",
    ],
)
def test_what_is_odd_about_a_run_stops_nothing(database: Path, change: str) -> None:
    """Its numbers are all there."""
    changed(database, "PRAGMA ignore_check_constraints = 1", change)
    assert losses(database) == [0, 1, 2, 3, 4]


def test_a_column_that_is_missing_is_an_error(database: Path) -> None:
    """SQLite would give its name instead of its values, if it were asked in the usual way."""
    changed(database, "DROP TABLE metrics", "CREATE TABLE metrics (key, value, timestamp, run_uuid, step)")
    with pytest.raises(SourceError, match="no such column: is_nan"):
        losses(database)
