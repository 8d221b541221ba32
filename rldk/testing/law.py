"""The round-trip law: a run that was sent to a tracker is read back as what its journal holds.

Up to the declared losses, that is: each number is taken as `Sink.kept` says that the tracker keeps it,
and what holds no number (such as notes) is passed over. Of the events that begin a run's segments their
step and time must be kept, and of the run its `trainer` and the run that it `continues`: the last that any
segment has said of them, for a tracker keeps one of each. `seq` is not part of the law: a tracker may keep
no such number (MLflow does not), and its adapter counts anew.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from rldk.bridge import metric_name, tracker_metrics
from rldk.errors import SourceError
from rldk.frame import training_metrics
from rldk.testing.courier import Course, deliver, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from rldk.bridge import Adapter, Home, Sink
    from rldk.event import Event, Kind

    _Row = dict[str, Any]
    _Key = tuple[tuple[str, object], ...]  # columns and their values
    _Rows = dict[_Key, _Row]
    _Attempts = Literal["latest", "all"]

KINDS: Final[tuple[Kind, ...]] = ("metrics", "resource", "checkpoint", "alert", "end")

_FACTS: Final = ("trainer", "continues")
_KEY: Final = ("run_id", "step", "phase", "segment")
_ABSENT: Final = "nothing"


class LawBrokenError(AssertionError):
    """What a tracker gives back differs from what it was sent; the message says where."""


class _Point(NamedTuple):
    """One number in a tracker: its name there, when and at which step it was measured, and its value."""

    name: str
    milliseconds: int
    step: int
    value: str


def check_round_trip(
    events: Sequence[Event],
    sink: type[Sink],
    adapter: type[Adapter],
    folder: Path,
    course: Course = Course(),  # noqa: B008  # it is immutable
) -> Home:
    """Deliver a run as training does, read it back, and compare the two.

    Args:
        events: The run; its first event, and the first one of each segment, is of kind `run`. Its run id
            must be new to the tracker, and be one that can name a file.
        sink: Writes to the tracker, which must be configured so that `create` finds it.
        adapter: Reads it.
        folder: Where the run's journal is written.
        course: How the delivery goes.

    Returns:
        Where the tracker has the run.

    Raises:
        LawBrokenError: They differ.
        UndeliveredError: The sink did not take the run.
        SourceError: The adapter cannot read it.
    """
    path = folder / f"{events[0].run_id}_events.jsonl"
    home = deliver(events, sink.create, path, course)
    events = read_journal(path)
    check_read_back(events, home.source, sink, adapter)
    if not course.may_repeat:
        _check_points(events, _read(events, adapter(home.source), repeats=True), sink)
    return home


def check_read_back(
    events: Iterable[Event], source: str, sink: type[Sink], adapter: type[Adapter]
) -> list[Event]:
    """Compare what an adapter reads with what was sent: tables of every kind, starts, facts, points, order.

    Args:
        events: What was sent, as the journal holds it.
        source: Where the tracker has it.
        sink: Tells what the tracker keeps.
        adapter: Reads it.

    Returns:
        What was read.

    Raises:
        LawBrokenError: They differ.
        SourceError: The adapter cannot read it. Of a run that holds no number it may say so.
    """
    sent = list(events)
    read = _read(sent, adapter(source))
    if not read:
        return read
    _check_order(read)
    _check_starts(sent, read)
    _check_facts(sent, read)
    kept, own = expected_events(sent, sink), _own(read)
    for kind in [kind for kind in KINDS if any(event.kind == kind for event in (*kept, *own))]:
        attempts: _Attempts
        for attempts in ("latest", "all"):
            here, there = _table(kept, kind, attempts), _table(own, kind, attempts)
            check_table(here, there, f"{kind} events, attempts={attempts!r}")
    _check_points(sent, read, sink)
    return read


def _read(sent: Sequence[Event], adapter: Adapter, *, repeats: bool = False) -> list[Event]:
    """Read a source; one to which no number was sent may be one that cannot be read."""
    holds_numbers = any(map(tracker_metrics, sent))
    try:
        read = list(adapter.events(repeats=repeats))
    except SourceError:
        if holds_numbers:
            raise
        return []
    if not read and holds_numbers:
        raise LawBrokenError("nothing is read back")
    return read


def expected(events: Iterable[Event], sink: type[Sink]) -> pd.DataFrame:
    """The TrainingMetrics table of a journal, as the tracker is to give it back."""
    return _table(expected_events(events, sink), "metrics", "latest")


def expected_events(events: Iterable[Event], sink: type[Sink]) -> list[Event]:
    """The events that hold a number, or begin a segment, with the numbers that the tracker keeps."""
    return [_kept(event, sink) for event in events if event.kind == "run" or tracker_metrics(event)]


def _kept(event: Event, sink: type[Sink]) -> Event:
    metrics = (_kept_number(event, "metrics", name, sink) for name in event.metrics)
    counted = [name for name, value in event.data_slice.items() if isinstance(value, int | float)]
    data_slice = (_kept_number(event, "data_slice", name, sink) for name in counted)
    return msgspec.structs.replace(event, metrics=dict(metrics), data_slice=dict(data_slice))


def _kept_number(event: Event, field: str, name: str, sink: type[Sink]) -> tuple[str, int | float]:
    alone = {"metrics": {}, "data_slice": {}, field: {name: getattr(event, field)[name]}}
    [(shown, value)] = tracker_metrics(msgspec.structs.replace(event, **alone)).items()
    said, number = sink.kept(shown, value)
    renamed = None if said == shown else metric_name(said)
    return renamed.name if renamed else name, number


def _own(read: Iterable[Event]) -> list[Event]:
    """RLDK's own events that hold a number or begin a segment; a tracker may tell of others too."""
    told = (event for event in read if not event.is_raw)
    return [event for event in told if event.kind == "run" or tracker_metrics(event)]


def _table(events: Iterable[Event], kind: Kind, attempts: _Attempts) -> pd.DataFrame:
    """The table of one kind of events: of metrics it is the TrainingMetrics table."""
    chosen = [event for event in events if event.kind in {kind, "run"}]
    return training_metrics(
        [msgspec.structs.replace(e, kind="metrics") if e.kind == kind else e for e in chosen],
        attempts=attempts,
    )


def check_table(sent: pd.DataFrame, read: pd.DataFrame, what: str) -> None:
    """Compare two TrainingMetrics tables: rows and their order, and every cell.

    NaN equals NaN, missing equals missing, zero is not negative zero, and nothing else is forgiven.

    Args:
        sent: The one that is right.
        read: The one that is examined.
        what: What is compared, for the message.

    Raises:
        LawBrokenError: They differ; the message names the first row and column, and both values.
    """
    here, there = _rows(sent), _rows(read)
    for number, (key, row) in enumerate(here.items()):
        where = f"{what}: row {number} ({_shown_key(key)})"
        if key not in there:
            raise LawBrokenError(f"{where} is not read back; it was sent as {_measured(row)}")
        for column in dict.fromkeys([*row, *there[key]]):
            one, other = _cell(row, column), _cell(there[key], column)
            if one != other:
                raise LawBrokenError(f"{where}, column {column!r}: sent {one}, read back {other}")
    for number, (key, row) in enumerate(there.items()):
        if key not in here:
            text = (
                f"{what}: row {number} ({_shown_key(key)}) is read back, but was not sent: {_measured(row)}"
            )
            raise LawBrokenError(text)
    if list(here) != list(there):
        raise LawBrokenError(f"{what}: rows are read back in another order: {list(there)}, sent {list(here)}")


def _rows(table: pd.DataFrame) -> _Rows:
    """Rows by what identifies them, each as a cell of text for each column; missing cells are absent."""
    key = [name for name in _KEY if name in table.columns]
    missing = {name: table[name].isna().tolist() for name in table.columns}
    cells = {name: table[name].tolist() for name in table.columns}
    rows: _Rows = {}
    for i in range(len(table)):
        row = {name: spelled(cells[name][i]) for name in cells if not missing[name][i]}
        rows[tuple((name, cells[name][i]) for name in key)] = row
    return rows


def _cell(row: _Row, column: str) -> str:
    return str(row.get(column, _ABSENT))


def _shown_key(key: _Key) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in key)


def _measured(row: _Row) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in _KEY}


def _check_points(sent: Iterable[Event], read: Iterable[Event], sink: type[Sink]) -> None:
    """Compare number for number, whatever a table would merge."""
    here = _points(sent, sink)
    there = _points((event for event in read if not event.is_raw), None)
    for point in (here - there) or (there - here):
        raise LawBrokenError(
            f"point {point.name!r} at step {point.step}, time {point.milliseconds / 1000:.3f}, value "
            f"{point.value}: sent {here[point]} times, read back {there[point]} times"
        )


def _points(events: Iterable[Event], sink: type[Sink] | None) -> Counter[_Point]:
    points: Counter[_Point] = Counter()
    for event in events:
        for shown, value in tracker_metrics(event).items():
            name, number = sink.kept(shown, value) if sink else (shown, value)
            points[_Point(name, round(event.time * 1000), event.step, spelled(number))] += 1
    return points


def _check_starts(sent: Iterable[Event], read: Iterable[Event]) -> None:
    here, there = _starts(sent), _starts(read)
    if here != there:
        raise LawBrokenError(f"starts of the training (segment, step, time): sent {here}, read back {there}")


def _starts(events: Iterable[Event]) -> list[tuple[int, int | None, float]]:
    runs = [event for event in events if event.kind == "run"]
    return [(e.segment, None if e.model_info.get("outside_training") else e.step, e.time) for e in runs]


def _check_facts(sent: Iterable[Event], read: Sequence[Event]) -> None:
    """Compare what is told of the run as a whole; what others have logged need not tell it."""
    if all(event.is_raw for event in read if event.kind == "run"):
        return
    here, there = _facts(sent), _facts(read)
    for name in _FACTS:
        if here.get(name) != there.get(name):
            one, other = (repr(facts[name]) if name in facts else _ABSENT for facts in (here, there))
            raise LawBrokenError(f"{name} of the run: sent {one}, read back {other}")


def _facts(events: Iterable[Event]) -> dict[str, object]:
    runs = [event.model_info for event in events if event.kind == "run"]
    return {name: told[name] for told in runs for name in _FACTS if told.get(name) is not None}


def _check_order(read: Sequence[Event]) -> None:
    if read[0].kind != "run":
        raise LawBrokenError("the first event that is read is not of kind run")
    for before, after in itertools.pairwise(read):
        if after.time < before.time:
            raise LawBrokenError(f"times do not grow: {after.time:.3f} is read after {before.time:.3f}")


def spelled(value: object) -> str:
    """Write a value so that equal texts mean equal values: whole numbers alike as int and float."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        is_negative_zero = value == 0 and math.copysign(1.0, value) < 0
        return "-0.0" if is_negative_zero else _whole(int(value))
    if isinstance(value, int):
        return _whole(value)
    return repr(value)


def _whole(value: int) -> str:
    # Python refuses to write more than 4300 digits in decimal
    return str(value) if -(10**15) < value < 10**15 else hex(value)
