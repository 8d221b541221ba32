"""How do the rows that others have logged become events?"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from rldk.event import Event
from rldk_wandb.names import REPORT, TIME, is_whole, milliseconds, number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from rldk.bridge import RunFacts
    from rldk_wandb.offline import Axis, Run

STEP_OF_WANDB: Final = "_step"
RESERVED: Final = frozenset({STEP_OF_WANDB, "_runtime", TIME, "_wandb"})
_STEPS: Final = ("step", "global_step", "train/global_step", "trainer/global_step", "iteration", "iter")
"""Under which names others log the training step: the first that a row has is the step of what has no axis.

The same as in `rldk.adapters.raw`, which a bridge does not know."""
_INT64: Final = range(-(2**63), 2**63)
_NUMBERS: Final = frozenset({int, float})
_PLANS: Final = 1000


class _Group(NamedTuple):
    """Which names of a row are shown over which step, and how their values are taken out of it."""

    axis: str
    names: list[str]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]


class RawRows:
    """A reader of others' rows.

    Attributes:
        skipped: How often each name had a value that is no number.
        last: The last number of each name.
        is_counted: Whether there were any over W&B's own count of rows, for want of another step.
    """

    def __init__(self, run: Run, facts: RunFacts) -> None:
        self.skipped: Counter[str] = Counter()
        self.last: dict[str, float] = {}
        self.is_counted = False
        self._facts = facts
        self._exact = {axis.name: axis.step_metric for axis in run.axes if not axis.is_glob}
        self._globs = [axis for axis in run.axes if axis.is_glob]
        self._axes: dict[str, str] = {}
        self._plans: dict[frozenset[str], list[_Group]] = {}
        self._count = 0

    def events(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
        """Give an event for each step of each row; their times only grow, and tell whole milliseconds."""
        before = milliseconds(self._facts.began) or 0
        infos = _Infos(self._facts)
        for row in rows:
            if REPORT in row:
                continue
            at = number(row.get(TIME))
            told = milliseconds(at) if at is not None else None
            for step, metrics in self._planned(row) or self._by_step(row, self._numbers(row)):
                before = max(told or 0, before + 1)
                self._count += 1
                time = before / 1000
                yield _event(self._facts, infos.at(time), metrics, seq=self._count, step=step, time=time)

    def _planned(self, row: Mapping[str, Any]) -> list[tuple[int, dict[str, float]]] | None:
        """Split a row as those of the same names were, if it is numbers only, and each axis a step."""
        if not _NUMBERS.issuperset(map(type, row.values())):
            return None
        steps: dict[int, dict[str, float]] = {}
        plan = self._plan(row)
        for axis, names, values in plan:
            step = row.get(axis, 0)
            if not _is_step(step):
                return None
            steps[int(step)] = dict(zip(names, values(row), strict=True))
        if len(steps) < len(plan):
            return None
        self.last.update(row)
        return sorted(steps.items()) if len(plan) > 1 else list(steps.items())

    def _plan(self, row: Mapping[str, Any]) -> list[_Group]:
        names = frozenset(row)
        if names not in self._plans:
            if len(self._plans) >= _PLANS:  # names that are never the same
                self._plans.clear()
            self._plans[names] = self._new_plan(sorted(names - RESERVED))
        return self._plans[names]

    def _new_plan(self, names: list[str]) -> list[_Group]:
        axes = self._axes_of(names, names)
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            if name not in axes.values():
                groups[axes.get(name, STEP_OF_WANDB)].append(name)
        self.is_counted |= STEP_OF_WANDB in groups
        return [_Group(axis, some, _taking(some)) for axis, some in groups.items()]

    def _numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        flat = {name: value for name, value in flattened(row).items() if name not in RESERVED}
        read = {name: None if isinstance(value, str) else number(value) for name, value in flat.items()}
        self.skipped.update(name for name, value in read.items() if value is None)
        numbers = {name: value for name, value in sorted(read.items()) if value is not None}
        self.last |= numbers
        return numbers

    def _by_step(
        self, row: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> list[tuple[int, dict[str, float]]]:
        whole = {name: int(value) for name, value in numbers.items() if _is_step(value)}
        axes = self._axes_of(numbers, whole)
        self.is_counted |= any(name not in axes and name not in axes.values() for name in numbers)
        count = row.get(STEP_OF_WANDB)
        counted = int(count) if is_whole(count) and count is not None else 0
        groups: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, value in numbers.items():
            if name not in axes.values():
                groups[whole[axes[name]] if name in axes else counted][name] = value
        return sorted(groups.items())

    def _axes_of(self, names: Iterable[str], steps: Collection[str]) -> dict[str, str]:
        """Over which step each name is shown that is not over W&B's own count.

        Args:
            names: The names of a row.
            steps: Those whose value can be a step.
        """
        usual = next((name for name in _STEPS if name in steps), "")
        found = {name: self._axis(name) or usual for name in names}
        return {name: axis for name, axis in found.items() if axis in steps and axis != name}

    def _axis(self, name: str) -> str:
        """Over which metric a name is shown: W&B asks for exact names first, then for beginnings."""
        if name not in self._axes:
            globs = (axis.step_metric for axis in self._globs if _matches(axis, name))
            self._axes[name] = self._exact[name] if name in self._exact else next(globs, "")
        return self._axes[name]


def _taking(names: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """How the values of some names are taken out of a row; `itemgetter` of one gives no tuple."""
    return itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)


def _is_step(value: float) -> bool:
    return value in _INT64 if isinstance(value, int) else value.is_integer() and int(value) in _INT64


def _matches(axis: Axis, name: str) -> bool:
    return name.startswith(axis.name.removesuffix("*"))


def flattened(row: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Join the names of what is nested by dots, as W&B shows them; media stay whole."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            flat |= flattened(value, f"{head}{name}.")
        else:
            flat[f"{head}{name}"] = value
    return flat


class _Infos:
    """The `model_info` of raw events, one that all events of a segment share."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._starts = sorted(segment.time for segment in facts.segments)
        self._known: dict[int, dict[str, Any]] = {}

    def at(self, time: float) -> dict[str, Any]:
        """The one of an event of this time."""
        place = bisect_right(self._starts, time)
        if place not in self._known:
            self._known[place] = _info(self._facts, time)
        return self._known[place]


def _info(facts: RunFacts, time: float) -> dict[str, Any]:
    return {"run_id": facts.run_id, "phase": "train", "segment": facts.segment_at(time), "raw": True}


def _event(
    facts: RunFacts,
    info: dict[str, Any],
    metrics: dict[str, float],
    *,
    seq: int,
    step: int,
    time: float,
) -> Event:
    return Event(
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics=metrics,
        rng={},
        data_slice={},
        model_info=info,
        notes=[],
    )


def merged(ours: Iterator[Event], theirs: Iterable[Event]) -> Iterator[Event]:
    """Put events in the order of their time; ours, of which one is first, keep theirs to the millisecond."""
    last, ahead = -math.inf, next(ours, None)
    theirs = iter(theirs)
    for event in theirs:
        at = max(_at(event), last + 1)
        while ahead is not None and (_at(ahead) <= at or last < 0):
            yield ahead
            last, ahead = _at(ahead), next(ours, None)
            at = max(at, last + 1)
        last = at
        yield event if at == _at(event) else _moved(event, at)
        if ahead is None and at == _at(event):
            break  # theirs only grow: none will be moved any more
    if ahead is None:
        yield from theirs
    else:
        yield ahead
        yield from ours


def _at(event: Event) -> int:
    return round(event.time * 1000)


def _moved(event: Event, at: float) -> Event:
    began = event.time - event.wall_time
    return msgspec.structs.replace(event, time=at / 1000, wall_time=round(at / 1000 - began, 3))
