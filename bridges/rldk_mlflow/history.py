"""How do the histories of single metrics become events again, in the order of their time."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rldk.bridge import event_from_tracker, metric_name, run_events
from rldk.event import Event
from rldk_mlflow import columns
from rldk_mlflow.moments import Lane, joined
from rldk_mlflow.names import unescape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rldk.bridge import RunFacts
    from rldk.event import Kind
    from rldk_mlflow.columns import Columns, Whole


class Series(NamedTuple):
    """The history of one metric; kind and phase are empty for what others have logged."""

    shown: str
    kind: str
    phase: str
    columns: Columns

    @classmethod
    def of(cls, key: str, points: Iterable[Any]) -> Series:
        """Take over a history as MLflow's client gives it."""
        return cls.under(key, columns.of_points(points))

    @classmethod
    def under(cls, key: str, history: Columns) -> Series:
        """Take over a history under the key that MLflow has for it."""
        shown = unescape(key)
        name = metric_name(shown)
        return cls(shown, *((name.kind, name.phase) if name else ("", "")), history)

    @property
    def is_raw(self) -> bool:
        """Whether somebody else than RLDK has logged it."""
        return not self.kind


class _Draft(NamedTuple):
    """An event that has no number yet; `like` has what it shares with others."""

    milliseconds: int
    time: float
    step: int
    metrics: dict[str, int | float]
    data_slice: dict[str, Any]
    like: Event


def shared(series: Iterable[Series]) -> list[Series]:
    """Hold equal times and steps once: most metrics of a run are logged together."""
    known: dict[tuple[int, ...], Columns] = {}
    held: list[Series] = []
    for each in series:
        old = each.columns
        mark = (len(old.steps), *map(int, (*old.timestamps[:1], *old.timestamps[-1:], *old.steps[-1:])))
        other = known.setdefault(mark, old)
        if np.array_equal(other.timestamps, old.timestamps) and np.array_equal(other.steps, old.steps):
            old = old._replace(timestamps=other.timestamps, steps=other.steps)
        held.append(each._replace(columns=old))
    return held


def first_timestamp(series: Iterable[Series]) -> int | None:
    """When the first point of all was logged, in milliseconds; None where there is none."""
    return min((int(s.columns.timestamps[0]) for s in series if len(s.columns.timestamps)), default=None)


def doubts(series: Iterable[Series]) -> Iterator[str]:
    """Say which numbers are not quite what the store holds, a sentence for each kind of them."""
    told = [(each.shown, each.columns) for each in series]
    if often := {name: held.infinities for name, held in told if held.infinities}:
        yield (
            f"{_count(often)} the largest float, with which a database holds an infinity, and are "
            f"read as such: {_listed(often)}"
        )
    if often := {name: held.fractions for name, held in told if held.fractions}:
        yield f"{_count(often)} logged at a fraction of a step, and count for the whole one: {_listed(often)}"
    if often := {name: held.skipped for name, held in told if held.skipped}:
        yield f"{_count(often)} no numbers at a time and a step, and were skipped: {_listed(often)}"


def _count(often: dict[str, int]) -> str:
    total, names = sum(often.values()), len(often)
    values = "1 value" if total == 1 else f"{total:,} values"
    metrics = "1 metric" if names == 1 else f"{names:,} metrics"
    return f"{values} of {metrics} {'is' if total == 1 else 'are'}"


def _listed(often: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(often.items()))


def events(series: Sequence[Series], facts: RunFacts, note: Callable[[str], None]) -> Iterator[Event]:
    """Rebuild a run's events: those that began its segments, RLDK's own, and what others have logged.

    The first one tells of the run. RLDK's own keep their time; another one that would have the time of
    an earlier event, or come before the first one, gets the next free millisecond. Events of one segment
    share the `rng` and `model_info` that are equal in all of them.

    Args:
        series: Every history of the run.
        facts: What the run's tags say.
        note: Is told of what cannot be read.
    """
    first, *others = run_events(facts)
    yield first
    starts = [_Draft(_milliseconds(e), e.time, e.step, {}, {}, e) for e in others]
    own = heapq.merge(starts, _own(series, facts, note), key=attrgetter("time"))
    drafts = _in_order(_milliseconds(first), own, _raw(series, facts))
    for seq, (_, time, step, metrics, data_slice, like) in enumerate(drafts, start=1):
        yield Event(
            kind=like.kind,
            seq=seq,
            time=time,
            step=step,
            wall_time=round(time - facts.began, 3),
            metrics=metrics,
            rng=like.rng,
            data_slice=data_slice,
            model_info=like.model_info,
            notes=[],
        )


def end_event(facts: RunFacts, status: str, time_ms: int, after: Event) -> Event:
    """Tell how a run ended, and that it did so after its last event."""
    time = max(time_ms, _milliseconds(after) + 1) / 1000
    return _raw_event(facts, "end", time, after.step, seq=after.seq + 1, told={"status": status})


class _Segments:
    """Which segment wrote what: the look-up of `RunFacts.segment_at`, for many times."""

    def __init__(self, facts: RunFacts) -> None:
        self._times = [segment.time for segment in facts.segments]
        self._numbers = [0, *accumulate((segment.number for segment in facts.segments), max)]

    def at(self, time: float) -> int:
        return self._numbers[bisect_right(self._times, time)]


def _own(series: Iterable[Series], facts: RunFacts, note: Callable[[str], None]) -> Iterator[_Draft]:
    ours = [each for each in series if not each.is_raw]
    kinds = sorted({(each.kind, each.phase) for each in ours})
    lanes = [_single(each, kinds.index((each.kind, each.phase)), note) for each in ours]
    names = [metric_name(each.shown) for each in ours]
    titles = [name.name if name else "" for name in names]
    is_data = [name is not None and name.is_data for name in names]
    has_data = any(is_data)
    segments = _Segments(facts)
    likes: dict[tuple[int, int], Event] = {}
    for timestamp, step, kind, which, values in joined(lanes):
        time = timestamp / 1000
        known = kind, segments.at(time)
        like = likes.get(known)
        if like is None:
            shown = {ours[which[0]].shown: values[0]}
            like = likes[known] = _must(event_from_tracker(shown, facts=facts, seq=0, step=step, time=time))
        found = zip(which, values, strict=True)
        if has_data:
            points = list(found)
            metrics: dict[str, int | float] = {titles[i]: v for i, v in points if not is_data[i]}
            counted = {titles[i]: v for i, v in points if is_data[i]}
        else:
            metrics, counted = {titles[i]: v for i, v in found}, {}
        yield _Draft(timestamp, time, step, metrics, counted, like)


def _must(event: Event | None) -> Event:
    assert event is not None  # noqa: S101  # the name was read before
    return event


def _single(series: Series, kind: int, note: Callable[[str], None]) -> Lane:
    """One value at each moment: RLDK writes no more, and an event has room for no more."""
    timestamps, steps, values, *_ = series.columns
    again = _repeats(timestamps, steps)
    if not again.any():
        return Lane(timestamps, steps, kind, values)
    kept = math.nan
    for value, is_again in zip(values.tolist(), again.tolist(), strict=True):
        if not is_again:
            kept = value
        elif not _same(kept, value):
            note(f"{series.shown} has two values at one time; the first that MLflow gives is kept")
    return Lane(timestamps[~again], steps[~again], kind, values[~again])


def _raw(series: Iterable[Series], facts: RunFacts) -> Iterator[_Draft]:
    theirs = [each for each in series if each.is_raw]
    titles = [each.shown for each in theirs]
    segments = _Segments(facts)
    likes: dict[int, Event] = {}
    for timestamp, step, _, which, values in joined([_layered(each) for each in theirs]):
        time = timestamp / 1000
        segment = segments.at(time)
        like = likes.get(segment)
        if like is None:
            like = likes[segment] = _raw_event(facts, "metrics", time, step)
        yield _Draft(
            timestamp, time, step, {titles[i]: v for i, v in zip(which, values, strict=True)}, {}, like
        )


def _layered(series: Series) -> Lane:
    """Spread the values that one metric was given within one millisecond; an exact repeat counts once."""
    timestamps, steps, values, *_ = series.columns
    again = _repeats(timestamps, steps)
    if not again.any():
        return Lane(timestamps, steps, 0, values)
    kept: list[int] = []
    layers: list[int] = []
    seen: dict[str, None] = {}
    for index, (value, is_again) in enumerate(zip(values.tolist(), again.tolist(), strict=True)):
        if not is_again:
            seen.clear()
        if repr(value) not in seen:
            kept.append(index)
            layers.append(len(seen))
            seen[repr(value)] = None
    return Lane(timestamps[kept], steps[kept], np.array(layers, np.int64), values[kept])


def _repeats(timestamps: Whole, steps: Whole) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which points are of the time and the step of the one before."""
    again = np.zeros(len(steps), np.bool_)
    again[1:] = (timestamps[1:] == timestamps[:-1]) & (steps[1:] == steps[:-1])
    return again


def _in_order(last: int, own: Iterator[_Draft], raw: Iterator[_Draft]) -> Iterator[_Draft]:
    upcoming = next(own, None)
    for point in raw:
        while upcoming is not None and upcoming.milliseconds <= max(point.milliseconds, last + 1):
            yield upcoming
            last, upcoming = upcoming.milliseconds, next(own, None)
        if point.milliseconds > last:
            last = point.milliseconds
            yield point
        else:
            last += 1
            yield point._replace(milliseconds=last, time=last / 1000)
    if upcoming is not None:
        yield upcoming
        yield from own


def _raw_event(
    facts: RunFacts, kind: Kind, time: float, step: int, *, seq: int = 0, told: dict[str, str] | None = None
) -> Event:
    known = {"run_id": facts.run_id, "raw": True, "segment": facts.segment_at(time)}
    return Event(
        kind=kind,
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics={},
        rng={},
        data_slice={},
        model_info=known | (told or {}),
        notes=[],
    )


def _milliseconds(event: Event) -> int:
    return round(event.time * 1000)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
