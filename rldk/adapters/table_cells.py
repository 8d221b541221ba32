"""What do the cells of a table say: numbers, times, runs."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from math import copysign, inf, isnan
from typing import TYPE_CHECKING, Any, Final

from rldk.adapters.limits import Names
from rldk.adapters.raw import RawRun, Skips, milliseconds, number, number_in
from rldk.adapters.table_files import MISSING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

RUNS: Final = ("run_id", "run", "run_name", "name")
"""Columns that name the run of a row, as `Columns` spells them; the first one that is there counts."""


class Columns:
    """The header of a table, in which `Run ID` is `run_id`."""

    def __init__(self, header: Sequence[str]) -> None:
        self.header = list(header)
        self.names = {
            _plain(name): place for place, name in reversed(list(enumerate(header))) if name.strip()
        }

    def first(self, names: Iterable[str]) -> int | None:
        """The column of the first name that is there."""
        return next((self.names[name] for name in names if name in self.names), None)

    def all(self, names: Iterable[str]) -> list[int]:
        """The columns of the names that are there."""
        return [self.names[name] for name in names if name in self.names]


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


class Runs:
    """The runs of one table, by what the table calls them.

    Args:
        path: The table, after which a run is called that has no name in it.

    Attributes:
        default: That name.
        last_steps: The last step of each run that was told so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.default = re.sub(r"(\.(gz|zst|csv|tsv|txt|parquet))+\Z", "", path.name) or "run"
        self._names = Names(str(path))
        self._ids = Names(str(path), "runs")
        self._runs: dict[str, RawRun] = {}
        self.last_steps: dict[str, int] = {}
        self._again: Counter[str] = Counter()

    def get(self, run_id: str) -> RawRun:
        """The run of this id, begun where it is new."""
        if run_id not in self._runs:
            self._ids.add([run_id])
            self._runs[run_id] = RawRun(run_id, self._names)
        return self._runs[run_id]

    def new(self, run_id: str, facts: dict[str, Any]) -> RawRun:
        """A run that is told by one row alone; a second one of the same id gets a number."""
        self._again[run_id] += 1
        count = self._again[run_id]
        self._ids.add([f"{run_id} ({count})"])
        return RawRun(run_id if count == 1 else f"{run_id} ({count})", self._names, facts)


class Infinities:
    """Reads the largest float as the infinity for which MLflow's databases keep it, and counts that."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, value: float) -> float:
        """Give the value, or the infinity that it stands for."""
        # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/sqlalchemy_store.py#L1370
        if isinstance(value, int) or not _ALMOST_LARGEST <= abs(value) < inf:
            return value
        self._count += 1
        return copysign(inf, value)

    def sentences(self) -> list[str]:
        """Say it to people; empty where there was none."""
        what = "values are the largest float, as which MLflow keeps an infinity, and are read as one"
        return [f"{self._count} {what}"] if self._count else []


_ALMOST_LARGEST: Final = 1.797e308  # MLflow's pages round it


def text_in(cell: object) -> str:
    """Read a cell as text; empty where nothing is in it."""
    return "" if cell in MISSING else str(cell)


def id_in(cell: object) -> str:
    """Read a cell as the id of a run, which may well be `NA`; empty where nothing is in it."""
    is_nothing = cell is None or cell == "" or (isinstance(cell, float) and isnan(cell))
    return "" if is_nothing else str(cell)


def cell_number(cell: object) -> int | float | None:
    """Read the number in a cell; None where nothing or something else is in it."""
    if isinstance(cell, str):
        return None if cell in MISSING else number_in(cell)
    return float(cell) if isinstance(cell, Decimal) else number(cell)


def clock_of(row: list[Any], columns: Iterable[int]) -> tuple[int | None, int | None]:
    """Which of some columns tells the time of a row, and what it tells, in milliseconds since the epoch."""
    for place in columns:
        at = milliseconds(row[place])
        if at is not None:
            return place, at
    return None, None


def numbers_in(
    row: list[Any], columns: Iterable[tuple[int, str]], passed: Container[int | None], skips: Skips
) -> dict[str, int | float]:
    """Read the numbers in some columns of a row, but for those that tell its time or its step.

    Args:
        row: The cells.
        columns: Place and name of each column.
        passed: Places of the columns that are passed over.
        skips: Is told of what is no number.
    """
    metrics: dict[str, int | float] = {}
    for place, name in columns:
        cell = row[place]
        if cell is None or cell == "" or place in passed:
            continue
        value = cell_number(cell)
        if value is not None:
            metrics[name] = value
        elif cell not in MISSING:
            skips.value(name)
    return metrics
