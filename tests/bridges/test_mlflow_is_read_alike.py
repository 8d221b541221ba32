"""A run gives the same table, whether its database, its server or MLflow's client is asked."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Metric, Param

from rldk.ingest import ingest_runs
from rldk_mlflow import rest
from rldk_mlflow.adapter import MLflowAdapter

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

T0 = 1_763_847_600_000
ODD = [
    *(
        ("loss", value, 10 * step, step)
        for step, value in enumerate([1.5, math.nan, math.inf, -math.inf, 0.0])
    ),
    *(("reward/日本 ä", float(n), 10 * n, n) for n in range(5)),
    *(("count", float(2**53 + n), 10 * n, n) for n in range(5)),
    *(("loss", 100.0 + n, 60 + 10 * n, n) for n in range(3)),  # logged again, later
    *(("burst", float(n % 4), 7, 0) for n in range(6)),
    *(("burst", value, 8, 0) for value in (math.nan, 0.0, -1.0)),
    ("late", 1.0, 5, 2**62),
    ("early", 1.0, 5, -3),
]


def logged(uri: str) -> str:
    """Write a run with everything odd in it by MLflow itself; give its id."""
    client = mlflow.MlflowClient(uri)
    run_id = str(client.create_run("0", start_time=T0, run_name="odd", tags={"team": "ä"}).info.run_id)
    metrics = [Metric(key, value, T0 + at, step) for key, value, at, step in ODD]
    client.log_batch(run_id, metrics=metrics, params=[Param("lr", "0.1")])
    for start in range(0, 6000, 1000):
        many = [Metric("long", n / 7, T0 + n, n) for n in range(start, start + 1000)]
        client.log_batch(run_id, metrics=many)
    client.log_batch(run_id, metrics=[Metric("sparse", 1.0, T0 + n, 1000 * n) for n in range(500)])
    client.log_batch(run_id, metrics=[Metric("flat", float(n), T0 + n, 0) for n in range(999)])
    client.set_terminated(run_id, "FAILED", end_time=T0 + 10**6)
    return run_id


def read(source: str) -> tuple[pd.DataFrame, list[str], list[dict[str, object]]]:
    """The table, the problems, and what the first and the last event tell."""
    adapter = MLflowAdapter(source)
    first, *_, last = adapter.events()
    return ingest_runs(source), adapter.problems, [first.model_info, last.model_info]


def equal(one: str, other: str) -> None:
    """See that two sources give the same."""
    (table, problems, told), (table_2, problems_2, told_2) = read(one), read(other)
    pd.testing.assert_frame_equal(table, table_2, check_exact=True)
    assert (problems, told) == (problems_2, told_2)
    assert len(table) > 6000
    assert any("2 values of 1 metric are the largest float" in problem for problem in problems)


@pytest.mark.real
def test_a_database_its_server_and_the_client_say_the_same(
    empty_mlflow_db: Path,
    tmp_path: Path,
    serve_mlflow: Callable[[Path], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By windows, by pages where the server is an old one, and in the client's own way."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_mlflow_db.read_bytes())
    with serve_mlflow(database) as address:
        run_id = logged(address)
        straight, served = f"sqlite:///{database}#runs/{run_id}", f"{address}#runs/{run_id}"
        asked: list[str] = []
        ask = rest._Server._ask
        monkeypatch.setattr(rest._Server, "_ask", lambda self, at, q: (asked.append(at), ask(self, at, q))[1])
        equal(straight, served)
        assert rest._WINDOWS in asked
        monkeypatch.setattr(rest, "_MOST_IN_A_WINDOW", 90)  # windows are split, and given up at one step
        monkeypatch.setattr(rest, "_WISHED_IN_A_WINDOW", 400)
        equal(straight, served)
        assert rest._PAGES in asked
        with monkeypatch.context() as old:
            old.setattr(rest._Server, "version", lambda _: (2, 9))
            old.setattr(rest, "_PAGE", 100)
            equal(straight, served)
        monkeypatch.setattr(rest, "histories", lambda *_: None)
        equal(straight, served)
        assert len(ingest_runs(str(database))) == len(ingest_runs(straight))


@pytest.mark.real
def test_postgresql_gives_what_sqlite_does(postgres: str, mlflow_db: str) -> None:
    """Both were written by MLflow; a whole database is read by its URL alone, without its driver too."""
    one, other = logged(mlflow_db), logged(postgres)
    (table, problems, _), (table_2, problems_2, _) = (
        read(f"{mlflow_db}#runs/{one}"),
        read(f"{postgres}#runs/{other}"),
    )
    pd.testing.assert_frame_equal(
        table.drop(columns="run_id"), table_2.drop(columns="run_id"), check_exact=True
    )
    assert problems == problems_2
    for whole in (postgres, postgres.replace("+psycopg2", "")):
        pd.testing.assert_frame_equal(ingest_runs(whole), table_2)


@pytest.mark.real
def test_no_password_is_told(postgres: str) -> None:
    """A source may hold one, with a slash even; errors and problems do not."""
    wrong = postgres.replace("postgres@", "postgres:se/cret@")
    adapter = MLflowAdapter(f"{wrong}?application_name=secret")
    with pytest.raises(Exception, match="schema is not that of MLflow: it has no table") as caught:
        adapter.runs()
    assert "cret" not in str(caught.value)
    run_id = logged(postgres)
    mlflow.MlflowClient(postgres).create_run("0")
    adapter = MLflowAdapter(wrong)
    assert f"{wrong}#runs/{run_id}" in adapter.runs()
    assert {e.run_id for e in adapter.events()} == {run_id}
    assert adapter.problems
    assert "cret" not in " ".join(adapter.problems)


def test_a_database_is_read_without_mlflow(mlflow_db: str, tmp_path: Path) -> None:
    """Python's own SQLite does; neither MLflow nor SQLAlchemy is touched."""
    run_id = logged(mlflow_db)
    code = (
        "import sys; sys.modules['mlflow'] = sys.modules['sqlalchemy'] = None\n"
        "from rldk.ingest import ingest_runs\n"
        f"print(len(ingest_runs({str(tmp_path / 'mlflow.db')!r})), "
        f"len(ingest_runs({mlflow_db + '#runs/' + run_id!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    several, one = map(int, done.stdout.split())
    assert several == one > 6000


def test_many_runs_of_one_metric_are_kept_apart(mlflow_db: str, tmp_path: Path) -> None:
    """A whole database is all the active runs of its active experiments, by its path or its URI."""
    client = mlflow.MlflowClient()
    gone = client.create_experiment("gone")
    ids = [client.create_run(e, start_time=T0 + n).info.run_id for n, e in enumerate(("0", "0", gone, "0"))]
    for n, run_id in enumerate(ids):
        client.log_metric(run_id, "loss", float(n), T0 + n, n)
    client.delete_run(ids[3])
    client.delete_experiment(gone)
    for source in (str(tmp_path / "mlflow.db"), mlflow_db):
        assert MLflowAdapter(source).can_handle()
        assert MLflowAdapter(source).runs() == [f"{mlflow_db}#runs/{run_id}" for run_id in ids[:2]]
        assert [e.metrics["loss"] for e in MLflowAdapter(source).events() if e.metrics] == [0.0, 1.0]


def test_the_points_of_a_run_are_looked_up(mlflow_db: str, tmp_path: Path) -> None:
    """The day SQLite uses the index of the run by itself, it need not be told."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        asked = "EXPLAIN QUERY PLAN SELECT value FROM metrics WHERE run_uuid = 'a' AND key = 'b'"
        [(*_, plan)] = store.execute(asked)
    assert "index_metrics_run_uuid_key_step" not in plan
