"""How do the histories of single metrics become events again, in the order of their time."""

from __future__ import annotations

import heapq
import math
import sys
from array import array
from collections import Counter
from itertools import groupby, repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rldk.bridge import event_from_tracker, metric_name, run_events
from rldk.event import Event
from rldk_mlflow.names import unescape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rldk.bridge import RunFacts
    from rldk.event import Kind


class Moment(NamedTuple):
    """What the numbers of one event share; kind and phase are empty for what others have logged."""

    timestamp: int
    step: int
    kind: str
    phase: str


class Series(NamedTuple):
    """The history of one metric, in columns of 24 bytes a point."""

    shown: str
    kind: str
    phase: str
    timestamps: array[int]
    steps: array[int]
    values: array[float]

    @classmethod
    def of(cls, key: str, points: Iterable[Any]) -> Series:
        """Take over a history as MLflow's client gives it."""
        shown = unescape(key)
        name = metric_name(shown)
        # SQLite holds a step of 1.5 as it is.
        rows = [(int(p.timestamp), int(p.step), _with_infinity(p.value)) for p in points]
        rows.sort(key=itemgetter(0, 1))  # a file store has them as they were written
        timestamps, steps, values = zip(*rows, strict=True) if rows else ((), (), ())
        kind, phase = (name.kind, name.phase) if name else ("", "")
        return cls(shown, kind, phase, array("q", timestamps), array("q", steps), array("d", values))

    @property
    def is_raw(self) -> bool:
        """Whether somebody else than RLDK has logged it."""
        return not self.kind

    def points(self) -> Iterator[tuple[tuple[int, int, str, str], str, float]]:
        """Each point with its moment and its name."""
        moments = zip(self.timestamps, self.steps, repeat(self.kind), repeat(self.phase), strict=False)
        return zip(moments, repeat(self.shown), self.values, strict=False)


class RawPoint(NamedTuple):
    """What others have logged at one moment."""

    timestamp: int
    step: int
    numbers: dict[str, float]


def first_timestamp(series: Iterable[Series]) -> int | None:
    """When the first point of all was logged, in milliseconds; None where there is none."""
    return min((each.timestamps[0] for each in series if each.timestamps), default=None)


def events(series: Sequence[Series], facts: RunFacts, note: Callable[[str], None]) -> Iterator[Event]:
    """Rebuild a run's events: those that began its segments, RLDK's own, and what others have logged.

    The first one tells of the run. RLDK's own keep their time; another one that would have the time of
    an earlier event, or come before the first one, gets the next free millisecond.

    Args:
        series: Every history of the run.
        facts: What the run's tags say.
        note: Is told of what cannot be read.
    """
    first, *others = run_events(facts)
    yield first
    own = heapq.merge(others, _own(series, facts, note), key=attrgetter("time"))
    yield from _numbered(_in_order(_milliseconds(first), own, _raw(series), facts))


def end_event(facts: RunFacts, status: str, time_ms: int, after: Event) -> Event:
    """Tell how a run ended, and that it did so after its last event."""
    time = max(time_ms, _milliseconds(after) + 1) / 1000
    return _raw_event(facts, "end", time, after.step, seq=after.seq + 1, told={"status": status})


def _own(series: Iterable[Series], facts: RunFacts, note: Callable[[str], None]) -> Iterator[Event]:
    for moment, points in _moments(each for each in series if not each.is_raw):
        numbers: dict[str, float] = {}
        for _, shown, value in points:
            if not _same(numbers.setdefault(shown, value), value):
                note(f"{shown} has two values at one time; the first that MLflow gives is kept")
        time = moment.timestamp / 1000
        event = event_from_tracker(numbers, facts=facts, seq=0, step=moment.step, time=time)
        if event is not None:
            yield event


def _raw(series: Iterable[Series]) -> Iterator[RawPoint]:
    for moment, points in _moments(each for each in series if each.is_raw):
        for numbers in _layers((shown, value) for _, shown, value in points):
            yield RawPoint(moment.timestamp, moment.step, numbers)


def _moments(series: Iterable[Series]) -> Iterator[tuple[Moment, Iterator[tuple[Any, str, float]]]]:
    merged = heapq.merge(*(each.points() for each in series), key=itemgetter(0))
    return ((Moment(*moment), points) for moment, points in groupby(merged, key=itemgetter(0)))


def _layers(points: Iterable[tuple[str, float]]) -> list[dict[str, float]]:
    """Spread the values that one metric was given within one millisecond; an exact repeat counts once."""
    layers: list[dict[str, float]] = []
    seen: set[tuple[str, str]] = set()
    heights: Counter[str] = Counter()
    for shown, value in points:
        if (shown, repr(value)) not in seen:
            seen.add((shown, repr(value)))
            if heights[shown] == len(layers):
                layers.append({})
            layers[heights[shown]][shown] = value
            heights[shown] += 1
    return layers


def _in_order(last: int, own: Iterator[Event], raw: Iterator[RawPoint], facts: RunFacts) -> Iterator[Event]:
    upcoming = next(own, None)
    for point in raw:
        while upcoming is not None and _milliseconds(upcoming) <= max(point.timestamp, last + 1):
            yield upcoming
            last, upcoming = _milliseconds(upcoming), next(own, None)
        last = max(point.timestamp, last + 1)
        yield _raw_event(facts, "metrics", last / 1000, point.step, numbers=point.numbers)
    if upcoming is not None:
        yield upcoming
        yield from own


def _numbered(events: Iterable[Event]) -> Iterator[Event]:
    for seq, event in enumerate(events, start=1):
        yield msgspec.structs.replace(event, seq=seq)


def _raw_event(
    facts: RunFacts,
    kind: Kind,
    time: float,
    step: int,
    *,
    seq: int = 0,
    numbers: dict[str, float] | None = None,
    told: dict[str, str] | None = None,
) -> Event:
    known = {"run_id": facts.run_id, "raw": True, "segment": facts.segment_at(time)}
    return Event(
        kind=kind,
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics=dict(numbers or {}),
        rng={},
        data_slice={},
        model_info=known | (told or {}),
        notes=[],
    )


def _milliseconds(event: Event) -> int:
    return round(event.time * 1000)


def _with_infinity(value: float) -> float:
    # Databases hold an infinity as the largest float:
    # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/sqlalchemy_store.py#L1370
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
