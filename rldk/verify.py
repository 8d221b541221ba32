"""Do two homes of one run hold the same points? What one lacks, altered, repeats or adds."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec
import numpy as np

from rldk import bridge
from rldk.bridge import tracker_metrics
from rldk.errors import SourceError
from rldk.event import as_float
from rldk.sources import expanded, find_adapter, is_wanted, none_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from rldk.bridge import Adapter, Sink

    _Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
    _Moment = tuple[int, int]  # milliseconds, step
    _Values = Counter[float | None]  # None is NaN, which does not equal itself

Fault = Literal["missing", "altered", "repeated", "extra"]

_MOST_EXAMPLES: Final = 5
_MOST_NAMED: Final = 8


class Difference(NamedTuple):
    """One point that the two homes do not agree on.

    `missing` is in the first home alone, `extra` in the second alone, `altered` has another value there,
    `repeated` is there more often than in the first.
    """

    fault: Fault
    metric: str
    step: int
    time: float
    left: float | None
    right: float | None


class Verdict(msgspec.Struct, kw_only=True):
    """What a comparison found.

    Attributes:
        points: How many points the first home holds.
        counts: For each metric that differs, how many of its points, by fault.
        examples: The first differences of each metric.
        problems: What could not be read of either home.
    """

    points: int
    counts: dict[str, Counter[Fault]]
    examples: list[Difference]
    problems: list[str]

    @property
    def agrees(self) -> bool:
        """Whether both hold the same."""
        return not self.counts


class _Points:
    """The points of one metric, 24 bytes each: when, at which step, what."""

    def __init__(self) -> None:
        self._times = array("q")
        self._steps = array("q")
        self._values = array("d")

    def add(self, time: float, step: int, value: float) -> None:
        """Add a point; its time is taken in milliseconds, which every tracker keeps."""
        self._times.append(round(time * 1000))
        self._steps.append(step)
        self._values.append(value)

    def __len__(self) -> int:
        return len(self._times)

    def sorted(self) -> _Columns:
        """Give times, steps and values, each of shape (points,), in order of time, then step, then value."""
        times, steps = np.array(self._times, dtype=np.int64), np.array(self._steps, dtype=np.int64)
        values = np.array(self._values, dtype=np.float64)
        order = np.lexsort((values, steps, times))
        return times[order], steps[order], values[order]


class _Held(NamedTuple):
    """What one home holds: RLDK's own points and those of others, by the names that trackers show."""

    own: dict[str, _Points]
    raw: dict[str, _Points]


def verify(
    left: str | Path,
    right: str | Path,
    *,
    runs: tuple[str | None, str | None] = (None, None),
    hints: tuple[str | None, str | None] = (None, None),
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> Verdict:
    """Compare two homes of one run point for point.

    A point is a metric's value at one step and time. Both sides are taken as the trackers among them
    keep numbers (`Sink.kept`), so that what a tracker cannot keep is no difference. Where RLDK recorded
    the run, what others have logged beside it is left out, for each tracker has its own of that.

    Args:
        left: The home that is right, such as the journal.
        right: The home that is examined.
        runs: Which run of `left` and which of `right`, by id or a pattern, where a home holds several.
        hints: Names of their adapters.
        watch: Called before each home is read, with the home, its number from 0, and 2.

    Raises:
        UnknownSourceError: No adapter recognises one of them.
        SourceError: One of them cannot be read, or holds more than one run.
        SettingError: One of them holds no run that was asked for.
    """
    left, right = expanded(left), expanded(right)
    adapters = [find_adapter(left, hints[0]), find_adapter(right, hints[1])]
    installed = bridge.sinks()
    trackers = [installed[adapter.name] for adapter in adapters if adapter.name in installed]
    watch(left, 0, 2)
    here = _held(adapters[0], left, runs[0], trackers)
    watch(right, 1, 2)
    there = _held(adapters[1], right, runs[1], trackers)
    mine, theirs = (here.own, there.own) if here.own or there.own else (here.raw, there.raw)
    counts: dict[str, Counter[Fault]] = {}
    examples: list[Difference] = []
    for difference in _differences(mine, theirs):
        counts.setdefault(difference.metric, Counter())[difference.fault] += 1
        if counts[difference.metric].total() <= _MOST_EXAMPLES:
            examples.append(difference)
    problems = [*adapters[0].problems, *adapters[1].problems]
    points = sum(map(len, mine.values()))
    return Verdict(points=points, counts=counts, examples=examples, problems=problems)


def _held(adapter: Adapter, source: str, run: str | None, trackers: list[type[Sink]]) -> _Held:
    held = _Held(defaultdict(_Points), defaultdict(_Points))
    wanted = None if run is None else [run]
    there: dict[str, bool] = {}
    for event in adapter.events(repeats=True):
        if event.run_id not in there:
            there[event.run_id] = is_wanted(event.run_id, wanted)
        if not there[event.run_id]:
            continue
        for name, value in tracker_metrics(event).items():
            shown, kept = _kept(name, value, trackers)
            (held.raw if event.is_raw else held.own)[shown].add(event.time, event.step, kept)
    found = sorted(run_id for run_id, is_meant in there.items() if is_meant)
    if wanted and there and not found:
        raise none_wanted(wanted, there)
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
        remedy = "choose with --runs ID, once for each of the two"
        raise SourceError(source, f"it holds {len(found)} runs ({named}), not 1", remedy)
    return held


def _kept(name: str, value: float, trackers: list[type[Sink]]) -> tuple[str, float]:
    for tracker in trackers:
        name, value = tracker.kept(name, value)
    return name, as_float(value) + 0.0  # negative zero is zero


def _differences(left: dict[str, _Points], right: dict[str, _Points]) -> Iterator[Difference]:
    for name in sorted(left.keys() | right.keys()):
        mine, theirs = left.get(name, _Points()).sorted(), right.get(name, _Points()).sorted()
        if not _is_equal(mine, theirs):
            yield from _differing(name, _by_moment(mine), _by_moment(theirs))


def _is_equal(mine: _Columns, theirs: _Columns) -> bool:
    return (
        np.array_equal(mine[0], theirs[0])
        and np.array_equal(mine[1], theirs[1])
        and np.array_equal(mine[2], theirs[2], equal_nan=True)
    )


def _by_moment(columns: _Columns) -> dict[_Moment, _Values]:
    moments: dict[_Moment, _Values] = defaultdict(Counter)
    for time, step, value in zip(*(column.tolist() for column in columns), strict=True):
        moments[time, step][None if math.isnan(value) else value] += 1
    return moments


def _differing(
    name: str, mine: dict[_Moment, _Values], theirs: dict[_Moment, _Values]
) -> Iterator[Difference]:
    for moment in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(moment, Counter()), theirs.get(moment, Counter())
        lost, added = list((here - there).elements()), list((there - here).elements())
        time, step = moment[0] / 1000, moment[1]
        for value in added:
            fault: Fault = "repeated" if value in here else "altered" if lost else "extra"
            before = value if fault == "repeated" else lost.pop(0) if lost else None
            has_left = fault != "extra"
            yield Difference(fault, name, step, time, _number(before) if has_left else None, _number(value))
        for value in lost:
            yield Difference("missing", name, step, time, _number(value), None)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
