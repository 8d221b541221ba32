"""What has the run logged so far: the little of it that rules look at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk import catalog
from rldk.event import as_float
from rldk.health.robust import median

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rldk.event import Event

_HEAD: Final = 64
_TAIL: Final = 512

RESOURCE: Final = "resource"
CHECKPOINT: Final = "checkpoint"


class Point(NamedTuple):
    """A finite value, and the step that logged it."""

    step: int
    value: float


class Series:
    """The finite values of one metric, by logged point: the first 64 and the last 512 or more of them.

    Attributes:
        count: How many there were in all.
    """

    def __init__(self) -> None:
        self.count = 0
        self._head: list[Point] = []
        self._steps: list[int] = []
        self._values: list[float] = []
        self._starts: dict[int, float] = {}
        self._peaks: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return self.count

    def add(self, step: int, value: float) -> None:
        """Append a finite value."""
        if len(self._head) < _HEAD:
            self._head.append(Point(step, value))
        self._steps.append(step)
        self._values.append(value)
        self.count += 1
        if len(self._values) >= 2 * _TAIL:  # seldom, so that a point costs no more than to append it
            del self._steps[:-_TAIL], self._values[:-_TAIL]

    def rewind(self, step: int) -> None:
        """Forget what was logged beyond a step: training has gone back to it."""
        while self._steps and self._steps[-1] > step:
            self._steps.pop()
            self._values.pop()
            self.count -= 1
        self._head = [point for point in self._head if point.step <= step]
        if not self._steps:
            self._steps = [point.step for point in self._head]
            self._values = [point.value for point in self._head]
            self.count = len(self._head)
        self._starts.clear()
        self._peaks.clear()

    def first(self, count: int) -> list[float]:
        """The first values, at most 64."""
        return [point.value for point in self._head[:count]]

    def last(self, count: int) -> list[float]:
        """The last values, at most 512, the newest at the end."""
        return self._values[-min(count, _TAIL) :] if count > 0 else []

    def last_points(self, count: int) -> list[Point]:
        """The last values with their steps, at most 512, the newest at the end."""
        values = self.last(count)
        return list(map(Point, self._steps[-len(values) :], values)) if values else []

    def before_last(self, skipped: int, count: int) -> list[float]:
        """The values before the last few: `count` of them, where there are as many."""
        kept = self.last(skipped + count)
        return kept[: max(len(kept) - skipped, 0)]

    def start(self, count: int) -> float:
        """The median of the first values, at most 64; NaN for none."""
        found = self._starts.get(count)
        if found is None:
            found = median(self.first(count))
            if len(self._head) >= count:
                self._starts[count] = found
        return found

    def peak(self, count: int) -> float:
        """The highest median that so many neighbours ever had; NaN where there are not so many."""
        known, highest = self._peaks.get(count, (0, -math.inf))
        new = min(self.count - max(known, count - 1), len(self._values) - count + 1)
        ends = range(len(self._values) - new + 1, len(self._values) + 1)
        highest = max([highest, *(median(self._values[end - count : end]) for end in ends)])
        self._peaks[count] = (self.count, highest)
        return highest if self.count >= count else math.nan

    @property
    def latest(self) -> float:
        """The newest value.

        Raises:
            IndexError: There is none.
        """
        return self._values[-1]


_NOTHING: Final = Series()


def is_broken(value: float) -> bool:
    """Whether a number is NaN, an infinity, or an integer that is beyond the floats."""
    number = as_float(value)
    return number - number != 0


def _mapping(told: object) -> Mapping[str, Any]:
    """What a run tells by name; nothing where it tells something else."""
    return told if isinstance(told, dict) else {}


class Window:
    """A run as rules see it: who trains with what arguments, the current log, and the series so far.

    Args:
        kept: The metrics whose series are kept, by the part of the run that logs them (`train`, `eval`,
            `resource`, `checkpoint`).

    Attributes:
        trainer: Short name of the trainer, such as `GRPO`; empty where it is not known.
        current: What the newest event holds, non-finite values included.
        facts: What the newest event tells beside its metrics (`model_info`).
        step: The newest event's step.
        time: The newest event's time, seconds since the epoch.
        logged_at: Time of the newest sign of progress since training began or went on: a log, an
            evaluation, a checkpoint; None before the first.
    """

    def __init__(self, kept: Mapping[str, Collection[str]]) -> None:
        self.trainer = ""
        self.trl = ""
        self.current: Mapping[str, int | float] = {}
        self.facts: Mapping[str, Any] = {}
        self.step = 0
        self.time = 0.0
        self.logged_at: float | None = None
        self._kept = {part: frozenset(names) for part, names in kept.items()}
        self._args: Mapping[str, Any] = {}
        self._units: Mapping[str, str] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self._seen: set[tuple[str, str]] = set()
        self._pace: tuple[int, float] | None = None

    def begin(self, event: Event) -> None:
        """Take over what the event that begins a segment tells; training goes on from its step."""
        told = event.model_info
        self.trainer = str(told.get("trainer") or self.trainer).removesuffix("Trainer")
        self.trl = str(_mapping(told.get("versions")).get("trl") or self.trl)
        self._args = _mapping(told.get("args")) or _mapping(told.get("config")) or self._args
        self._units = _mapping(told.get("units")) or self._units
        self.logged_at = None  # nothing was to be logged while no training went on
        self._pace = None
        if not told.get("outside_training"):
            for series in self._series.values():
                series.rewind(event.step)

    def add(self, part: str, event: Event) -> None:
        """Take over what an event measured."""
        self.current, self.facts = event.metrics, event.model_info
        self.step, self.time = event.step, event.time
        if part == "train" and "rank_step_time" not in event.metrics:
            self._time_a_step(event)
        if part != RESOURCE:
            self.logged_at = event.time
        kept = self._kept.get(part, frozenset())
        for name in event.metrics.keys() & kept:
            self._put(part, name, event.step, event.metrics[name])

    def _put(self, part: str, name: str, step: int, raw: float) -> None:
        self._seen.add((part, name))
        if not is_broken(raw):
            value = as_float(raw)
            self._series.setdefault((part, name), Series()).add(step, value)

    def _time_a_step(self, event: Event) -> None:
        """Seconds from log to log by the steps between them: what any trainer lets one see of its pace."""
        if self._pace is not None and event.step > self._pace[0]:
            seconds = (event.time - self._pace[1]) / (event.step - self._pace[0])
            self._put("train", SECONDS_PER_STEP, event.step, seconds)
        if self._pace is None or event.step > self._pace[0]:
            self._pace = event.step, event.time

    def series(self, name: str, part: str = "train") -> Series:
        """The values of a metric so far; an empty series where there are none."""
        return self._series.get((part, name), _NOTHING)

    def has_logged(self, name: str, part: str = "train") -> bool:
        """Whether the metric was logged at all, be it as NaN."""
        return (part, name) in self._seen

    def argument(self, name: str) -> float | None:
        """A numeric argument of the trainer, as the run tells it; None where it tells none."""
        value = self._args.get(name)
        if isinstance(value, bool):
            return float(value)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            return {"true": 1.0, "false": 0.0}.get(str(value).lower())

    def unit(self, name: str) -> str:
        """The unit of a metric in this run; empty where nobody knows it."""
        told = self._units.get(name)
        if told is not None:
            return str(told)
        metric = catalog.named(name)
        return "" if metric is None else metric.unit


SECONDS_PER_STEP: Final = "seconds_per_step"
"""Name of the series of the seconds that a step took, from log to log."""
