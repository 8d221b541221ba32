"""How do the rows of a log become events: a row for each step, or for each value."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.adapters.raw import RESERVED, ROW_COUNT, STEPS, TIMES, Skips, whole
from rldk.adapters.table_cells import (
    RUNS,
    Columns,
    Infinities,
    Runs,
    cell_number,
    clock_of,
    id_in,
    numbers_in,
    text_in,
)
from rldk.adapters.table_files import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rldk.event import Event

METRICS: Final = ("metric", "metric_name", "key", "tag", "variable", "name")
"""Columns that name the metric of a row with one value."""
VALUES: Final = ("value", "metric_value")
TENSORBOARD: Final = frozenset({"wall_time", "step", "value"})
"""The columns of what TensorBoard's page downloads."""


class Wide:
    """A row for each step, and a column for each metric.

    Each row's step stands in the first column of a step in which something is. A row without one belongs to
    the row before where it has W&B's count of rows, and is skipped else.
    """

    def __init__(self, columns: Columns, runs: Runs, skips: Skips) -> None:
        self._steps = columns.all(STEPS)
        self._count = columns.names.get(ROW_COUNT)
        self._run = columns.first(RUNS)
        self._times = columns.all(TIMES)
        self._runs = runs
        self._skips = skips
        passed = {*self._steps[:1], self._run}
        self._metrics = [
            (place, name)
            for place, name in enumerate(columns.header)
            if place not in passed and name.strip() and name not in RESERVED
        ]  # the column without a name is pandas' index
        self.texts = {place for place in (*self._steps, self._run, *self._times) if place is not None}
        self.notes: list[str] = []

    def events(self, rows: Iterable[tuple[int, list[Any]]]) -> Iterator[Event]:
        """Give an event for each row with a step and a number."""
        for place, row in rows:
            run_id = id_in(row[self._run]) if self._run is not None else ""
            run_id = run_id or self._runs.default
            axis, step = self._step_of(run_id, row)
            clock, at = clock_of(row, self._times)
            metrics = numbers_in(row, self._metrics, (axis, clock), self._skips)
            if step is None:
                self._skips.place("rows have no step and", f"line {place}")
            elif metrics:
                yield from self._runs.get(run_id).log(step, metrics, at)

    def _step_of(self, run_id: str, row: list[Any]) -> tuple[int | None, int | None]:
        """The column that tells a row's step, and the step."""
        for place in self._steps:
            step = whole(row[place])
            if step is not None:
                self._runs.last_steps[run_id] = step
                return place, step
        count = None if self._count is None else whole(row[self._count])
        return None, count if count is None else self._runs.last_steps.get(run_id, count)


class Long:
    """A row for each value: MLflow's chart export, and what others melt; rows of one moment are one event."""

    def __init__(self, columns: Columns, value: int, runs: Runs, skips: Skips) -> None:
        self._value = value
        self._metric = columns.first(METRICS)
        self._step = columns.first((*STEPS, ROW_COUNT))
        self._run = columns.first([name for name in RUNS if columns.names.get(name) != self._metric])
        self._times = columns.all(TIMES)
        self._runs = runs
        self._skips = skips
        self._spelled = Infinities()
        self._is_mlflow = {"run", "run_id", "timestamp"} <= columns.names.keys()
        self._called = _tensorboard_names(runs.path)
        known = (self._step, self._run, self._metric, value, *self._times)
        self.texts = {place for place in known if place is not None}
        self.notes: list[str] = []

    def events(self, rows: Iterable[tuple[int, list[Any]]]) -> Iterator[Event]:
        """Give an event for each group of neighbouring rows of one run, step and time."""
        held: _Held | None = None
        rows_of: Counter[tuple[str, str]] = Counter()
        for place, row in rows:
            point = self._point(place, row)
            if point is None:
                continue
            rows_of[point.run_id, point.name] += len(rows_of) < _MOST_COUNTED
            if held is None or not held.takes(point):
                yield from held.events(self._runs) if held else ()
                held = _Held(point)
            held.metrics[point.name] = point.value
        yield from held.events(self._runs) if held else ()
        self.notes += self._spelled.sentences()
        if self._is_mlflow and _MLFLOW_SAMPLE in rows_of.values():
            self.notes.append("320 points of a metric are all that MLflow exports: they are a sample")

    def _point(self, place: int, row: list[Any]) -> _Point | None:
        name = text_in(row[self._metric]) if self._metric is not None else self._called[1]
        run_id = (id_in(row[self._run]) if self._run is not None else "") or self._called[0]
        step = None if self._step is None else whole(row[self._step])
        if row[self._value] in MISSING:
            return None
        value = cell_number(row[self._value])
        if value is None:
            self._skips.value(name)
            return None
        if step is None or not name:
            self._skips.place("rows have no step or no name and", f"line {place}")
            return None
        value = self._spelled.read(value) if self._is_mlflow else value
        return _Point(run_id or self._runs.default, step, clock_of(row, self._times)[1], name, value)


_MOST_COUNTED: Final = 10_000
_MLFLOW_SAMPLE: Final = (
    320  # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/server/js/src/experiment-tracking
)
_TENSORBOARD_FILE: Final = re.compile(r"(?:run-(?P<run>.*?)-)?tag-(?P<tag>.*)", re.DOTALL)


def _tensorboard_names(path: Path) -> tuple[str, str]:
    """Run and metric of a table that TensorBoard's page gives: it tells them in the file's name alone."""
    found = _TENSORBOARD_FILE.fullmatch(path.name.removesuffix(".csv"))
    return (found["run"] or "", found["tag"]) if found else ("", "value")


class _Point(NamedTuple):
    run_id: str
    step: int
    at: int | None
    name: str
    value: int | float


class _Held:
    """The rows of one moment."""

    def __init__(self, first: _Point) -> None:
        self._first = first
        self.metrics: dict[str, int | float] = {}

    def takes(self, point: _Point) -> bool:
        return point[:3] == self._first[:3] and point.name not in self.metrics

    def events(self, runs: Runs) -> list[Event]:
        return runs.get(self._first.run_id).log(self._first.step, self.metrics, self._first.at)
