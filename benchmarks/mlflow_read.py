"""How soon is a run of MLflow a table: from its database, over REST, and by MLflow's own client?"""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

import mlflow

from benchmarks import reading, server, workload
from benchmarks.result import Goal, Result, Row, Table, ratios, spread
from rldk.ingest import ingest_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.reading import Cost

_BEGAN_MS: Final = 1_763_847_600_000
_CLIENT: Final = "MlflowClient.get_metric_history, over REST"
_REST: Final = "ingest_runs over REST, to the table"
_DATABASE: Final = "ingest_runs from SQLite, to the table"
_MIB: Final = 2**20
_WORKERS: Final = 4  # what `mlflow server` starts if it is not told otherwise


class _Plan(NamedTuple):
    rounds: int
    steps: int
    client_keys: int


def measure(*, quick: bool) -> Result:
    """Read one run in every way, in turns; the memory of one reading in a process of its own."""
    plan = _Plan(1, 200, 2) if quick else _Plan(2, 100_000, 2)
    with workload.workplace() as folder:
        database = folder / "mlflow.db"
        run_id = _filled(database, plan.steps)
        small = folder / "small.db"
        straight = f"sqlite:///{database}#runs/{run_id}"
        with server.serving(database, workers=_WORKERS) as address:
            served = f"{address}#runs/{run_id}"
            rates: dict[str, list[float]] = {_CLIENT: [], _REST: [], _DATABASE: []}
            for _ in range(plan.rounds):
                first, *others = workload.names()[: plan.client_keys]
                before = _client_s(address, run_id, [first], plan.steps)
                rates[_REST].append(_table_rate(served, plan))
                after = _client_s(address, run_id, others, plan.steps)
                rates[_CLIENT].append(plan.client_keys * plan.steps / (before + after))
                rates[_DATABASE].append(_table_rate(straight, plan))
        memory = reading.once(to_table, straight, f"sqlite:///{small}#runs/{_filled(small, 10)}")
    return Result(
        name="mlflow_read",
        question=__doc__ or "",
        tables=(_rates(plan, rates), _memory_table(memory)),
        goals=_goals(rates, memory),
        notes=_notes(plan),
    )


def _filled(database: Path, steps: int) -> str:
    """A database that MLflow has made, with one run of 20 metrics; gives its id."""
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    run_id = str(client.create_run("0", start_time=_BEGAN_MS).info.run_id)
    columns = "(key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
    with closing(sqlite3.connect(database)) as store:
        for table, first in (("metrics", 1), ("latest_metrics", steps)):
            store.executemany(f"INSERT INTO {table} {columns}", _points(run_id, first, steps))
        store.commit()
    return run_id


def _points(run_id: str, first: int, last: int) -> Iterator[tuple[str, float, int, str, int]]:
    for step in range(first, last + 1):
        for i, key in enumerate(workload.names()):
            yield key, math.sin(step + 7 * i), _BEGAN_MS + 100 * step, run_id, step


def _client_s(address: str, run_id: str, keys: Sequence[str], steps: int) -> float:
    """Seconds for a few of the metrics: all of them take minutes."""
    client = mlflow.MlflowClient(address)
    began = time.perf_counter()
    found = sum(len(client.get_metric_history(run_id, key)) for key in keys)
    seconds = time.perf_counter() - began
    _demand(found, len(keys) * steps)
    return seconds


def _table_rate(source: str, plan: _Plan) -> float:
    began = time.perf_counter()
    table = ingest_runs(source)
    seconds = time.perf_counter() - began
    _demand(len(table), plan.steps)
    return workload.USUAL * plan.steps / seconds


def _demand(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} of {expected} points or rows were read")


def to_table(source: str) -> object:
    """Read it as a user does."""
    return ingest_runs(source)


def _rates(plan: _Plan, rates: dict[str, list[float]]) -> Table:
    rows = (
        Row(name, (*spread(each), spread(ratios(each, rates[_CLIENT]))[1])) for name, each in rates.items()
    )
    title = f"Points a second, of a run of {workload.USUAL} metrics and {plan.steps:,} steps"
    return Table(title, ("min", "median", "max", "times MLflow's client"), tuple(rows))


def _memory_table(memory: Cost) -> Table:
    sizes = memory.table / _MIB, memory.grown / _MIB, memory.grown / memory.table
    return Table(
        "Memory of reading it from SQLite",
        ("table MiB", "peak growth MiB", "growth / table"),
        (Row("ingest_runs", sizes),),
    )


def _goals(rates: dict[str, list[float]], memory: Cost) -> tuple[Goal, ...]:
    def over_client(name: str) -> float:
        return spread(ratios(rates[name], rates[_CLIENT]))[1]

    return (
        Goal(
            "points a second, a SQLite database to the table / MLflow's client",
            "over",
            25,
            over_client(_DATABASE),
        ),
        Goal("points a second, REST to the table / MLflow's client", "over", 2, over_client(_REST)),
        Goal(
            "peak memory growth of reading a database / the table's memory",
            "under",
            4,
            memory.grown / memory.table,
        ),
    )


def _notes(plan: _Plan) -> str:
    return f"""\
- One `mlflow server` ({_WORKERS} workers) on a SQLite file that MLflow has made and into which the points
  were written at once; {plan.rounds} rounds, in which the three ways take turns.
- MLflow's client is timed on {plan.client_keys} of the {workload.USUAL} metrics, for it is slow: one before
  the reading over REST, the rest after it. It gives lists of points, the two others the whole table.
- The memory is that of a process of its own, which has read a small run before: the most it had, less
  what it had before."""
