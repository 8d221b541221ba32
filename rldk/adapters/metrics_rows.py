"""How do the rows of a TrainingMetrics table become the events that they were."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.adapters.limits import Names
from rldk.adapters.raw import Skips, number
from rldk.adapters.raw import whole as whole_number
from rldk.adapters.table_cells import cell_number, text_in
from rldk.event import Event, as_float
from rldk.schema import DTYPES, LEADING_METRICS, SEGMENT, metric_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from rldk.event import Kind

FACTS: Final = tuple(name for name in (*DTYPES, SEGMENT.name) if name not in LEADING_METRICS)
"""The columns that hold no metric."""
TEXTS: Final = frozenset({name for name, dtype in DTYPES.items() if dtype == "string"})
"""Those of them that hold text."""

_COUNTS: Final = ("tokens_in", "tokens_out")
_WHOLE: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_INT64: Final = range(-(2**63), 2**63)
_LONGEST_S: Final = 1e11  # a `wall_time` beyond it is damage, and no time of an event
_BEGAN_MS: Final = 1  # the table knows durations and no dates: each run begins in 1970


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        place: Its line.
        facts: What is in the columns of `FACTS`, as far as something is.
        metrics: Its numbers, under the names that they have in events.
    """

    place: int
    facts: dict[str, Any]
    metrics: dict[str, float]


class Cells:
    """Takes the rows of a table whose cells come in the order of a header, as in CSV and Parquet.

    Args:
        header: Names of the columns.
        skips: Is told of what is no number.
        index: Places of the columns that are pandas' index, and tell nothing.
    """

    def __init__(self, header: Sequence[str], skips: Skips, index: Container[int] = ()) -> None:
        self._facts = [(place, name) for place, name in enumerate(header) if name in FACTS]
        self._metrics = [
            (place, metric_of(name))
            for place, name in enumerate(header)
            if name not in FACTS and place not in index
        ]
        self._skips = skips

    def row(self, place: int, cells: Sequence[Any]) -> Row:
        """Take a row; what is missing in it is left out."""
        facts = {name: cells[at] for at, name in self._facts if cells[at] is not None}
        metrics: dict[str, float] = {}
        for at, name in self._metrics:
            cell = cells[at]
            if cell is None or cell == "":
                continue
            value = cell_number(cell)
            if value is not None:
                metrics[name] = as_float(value)
            elif text_in(cell):
                self._skips.value(name)
        return Row(place, facts, metrics)


def json_row(place: int, told: dict[str, Any], skips: Skips) -> Row:
    """Take a row that is an object of JSON, in which an absent key or null is missing."""
    facts = {name: told.pop(name) for name in FACTS if name in told}
    metrics: dict[str, float] = {}
    for name, cell in told.items():
        value = number(cell)
        if value is not None:
            metrics[metric_of(name)] = as_float(value)
        elif cell is not None:
            skips.value(name)
    return Row(place, {name: value for name, value in facts.items() if value is not None}, metrics)


class Runs:
    """The runs of one source, which may be spread over several files.

    Args:
        source: What is read.
    """

    def __init__(self, source: str) -> None:
        self._names = Names(source)
        self._ids = Names(source, "runs")
        self._runs: dict[str, _Run] = {}
        self._known: set[str] = set()

    def events(self, row: Row, skips: Skips) -> Iterator[Event]:
        """Give a row's event, behind the one that begins its run or its segment where the row is the first.

        Raises:
            SourceError: There are too many different names, or runs, to be such.
        """
        run_id, phase = row.facts.get("run_id"), row.facts.get("phase")
        step = _whole(row.facts.get("step"))
        if not isinstance(run_id, str) or not isinstance(phase, str) or not phase or step is None:
            skips.place("rows have no step, phase or run_id and", f"line {row.place}")
            return
        if not row.metrics.keys() <= self._known:
            self._known.update(row.metrics)
            self._names.add(row.metrics)
        run = self._runs.get(run_id)
        if run is None:
            self._ids.add([run_id])
            run = self._runs[run_id] = _Run(run_id)
        yield from run.events(step, phase, row)


class _Run:
    """One run: its events are RLDK's own, numbered, with times that only grow."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._segments: set[int] = set()
        self._count = 0
        self._last_ms = _BEGAN_MS - 1

    def events(self, step: int, phase: str, row: Row) -> Iterator[Event]:
        info: dict[str, Any] = {"run_id": self._run_id}
        info |= _told(row, "git_sha", _text)
        rng = _told(row, "seed", _whole)
        segment = _whole(row.facts.get(SEGMENT.name)) or 0
        wall_time = _wall_time(row.facts.get("wall_time"))
        if segment not in self._segments:
            # From which step a later start went on, the table does not say: not from beyond its first row.
            start = step if self._segments else 0
            began = wall_time if self._segments else 0.0
            self._segments.add(segment)
            yield self._event("run", start, began, info | {"segment": segment}, rng)
        counts = {name: count for each in _COUNTS for name, count in _told(row, each, _whole).items()}
        info |= {"phase": phase, "segment": segment}
        yield self._event("metrics", step, wall_time, info, rng, row.metrics, counts)

    def _event(
        self,
        kind: Kind,
        step: int,
        wall_time: float,
        info: dict[str, Any],
        rng: dict[str, Any],
        metrics: dict[str, float] | None = None,
        counts: dict[str, int] | None = None,
    ) -> Event:
        at = _BEGAN_MS + round(wall_time * 1000) if 0 <= wall_time < _LONGEST_S else 0
        self._last_ms = max(at, self._last_ms + 1)
        self._count += 1
        return Event(
            kind=kind,
            seq=self._count - 1,
            time=self._last_ms / 1000,
            step=step,
            wall_time=wall_time,
            metrics=dict(metrics or {}),
            rng=rng,
            data_slice=dict(counts or {}),
            model_info=info,
            notes=[],
        )


def _told(row: Row, name: str, read: Callable[[Any], Any]) -> dict[str, Any]:
    """What a row says in one column, under the column's name; empty where it says nothing."""
    value = read(row.facts.get(name))
    return {} if value is None else {name: value}


def _text(cell: object) -> str | None:
    return cell if isinstance(cell, str) and cell else None  # `null` may be somebody's text


def _whole(cell: object) -> int | None:
    if isinstance(cell, str) and _WHOLE.fullmatch(cell):  # exact, where a float would not be
        return int(cell) if int(cell) in _INT64 else None
    return whole_number(cell)


def _wall_time(cell: object) -> float:
    """Seconds since the run began; NaN, as in the table, where nobody knows."""
    value = cell_number(cell)
    return math.nan if value is None else as_float(value)
