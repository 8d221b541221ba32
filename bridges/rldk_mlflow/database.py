"""How are runs read straight from the database in which MLflow keeps them?

The tables have been the same for years, while MLflow itself opens no database but of its own version.
https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/dbmodels/models.py
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from rldk_mlflow import client, history, server_tables, sqlite_tables
from rldk_mlflow.columns import Gathering
from rldk_mlflow.history import Series
from rldk_mlflow.store import ACTIVE, Data, Experiment, Info, Run, StoreError, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NEEDED: Final = ("experiments", "latest_metrics", "metrics", "params", "runs", "tags")
_RUN: Final = (
    *("run_uuid", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id", "artifact_uri"),
    "name",
)
_POINT: Final = ("timestamp", "step", "value", "is_nan")


class Tables(Protocol):
    """The tables of an open database."""

    def names(self) -> set[str]:
        """Which tables there are."""

    def rows(
        self, table: str, columns: Sequence[str], where: Mapping[str, object]
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Read the rows in which columns have these values, many at once."""


@contextmanager
def opened(uri: str) -> Iterator[Database]:
    """Open a database for reading: nothing of it is made, filled or migrated.

    Raises:
        StoreError: It cannot be read, or is not MLflow's.
        OSError: No one listens there.
        MissingDependencyError: SQLAlchemy, or the database's driver, is not installed.
    """
    path = client.local_path(uri)
    tables = server_tables.opened(uri) if path is None else sqlite_tables.opened(path)
    with tables as found:
        missing = sorted(set(_NEEDED) - found.names())
        if missing:
            reason = f"its schema is not that of MLflow: it has no table {', '.join(missing)}"
            raise StoreError(reason, "check the path")
        yield Database(found)


class Database:
    """A store that is a database."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def run(self, run_id: str) -> Run:
        """Tell of a run."""
        found = self._all("runs", _RUN, run_uuid=run_id)
        if not found:
            raise StoreError(f"the run {run_id} is not found", "check the run id and the tracking URI")
        name = found[0][-1]
        tags = {"mlflow.runName": str(name)} if name else {}
        latest = self._all("latest_metrics", ("key", "step"), run_uuid=run_id)
        return Run(
            _info(found[0]),
            Data(
                params=self._texts("params", run_id),
                tags=tags | self._texts("tags", run_id),
                metrics={str(key): whole(step) or 0 for key, step in latest},
            ),
        )

    def experiment(self, experiment_id: str) -> Experiment | None:
        """Find an experiment by its id."""
        number = whole(experiment_id)
        return None if number is None else self._experiment(experiment_id=number)

    def named(self, name: str) -> Experiment | None:
        """Find an experiment by its name; an active one before a deleted one of another workspace."""
        return self._experiment(name=name)

    def run_ids(self, experiment_id: str | None) -> list[str]:
        """Name the active runs of an experiment, or of all active ones, in the order of their start."""
        told = self._all("experiments", ("experiment_id",), lifecycle_stage=ACTIVE)
        known = {str(number) for (number,) in told} if experiment_id is None else {experiment_id}
        runs = map(_info, self._all("runs", _RUN, lifecycle_stage=ACTIVE))
        started = sorted((run.start_time or 0, run.run_id) for run in runs if run.experiment_id in known)
        return [run_id for _, run_id in started]

    def series(self, run: Run) -> list[Series]:
        """Read the histories of a run, in the order of its keys."""
        # One by one: a reader that stays keeps those who write to SQLite waiting
        return history.shared(self._history(run.info.run_id, key) for key in run.histories())

    def _history(self, run_id: str, key: str) -> Series:
        gathering = Gathering()
        for rows in self._tables.rows("metrics", _POINT, {"run_uuid": run_id, "key": key}):
            gathering.add(*zip(*rows, strict=True))
        return Series.under(key, gathering.columns(by_value=True))

    def _experiment(self, **where: object) -> Experiment | None:
        rows = self._all("experiments", ("experiment_id", "name", "lifecycle_stage"), **where)
        found = [Experiment(*map(str, row)) for row in rows]
        return min(found, key=lambda each: each.lifecycle_stage != ACTIVE, default=None)

    def _texts(self, table: str, run_id: str) -> dict[str, str]:
        rows = self._all(table, ("key", "value"), run_uuid=run_id)
        return {str(key): "" if value is None else str(value) for key, value in sorted(rows, key=str)}

    def _all(self, table: str, columns: Sequence[str], **where: object) -> list[tuple[Any, ...]]:
        return [row for rows in self._tables.rows(table, columns, where) for row in rows]


def _info(row: tuple[Any, ...]) -> Info:
    run_id, status, start, end, stage, experiment, artifacts, _ = row
    return Info(
        run_id=str(run_id),
        status=str(status),
        start_time=whole(start),
        end_time=whole(end),
        lifecycle_stage=str(stage),
        experiment_id=str(experiment),
        artifact_uri=str(artifacts or ""),
    )
