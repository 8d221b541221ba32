"""How has a metric run so far: the newest points, and a bounded number of all."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from rldk.event import as_float

_MOST: Final = 512
_RECENT: Final = 11


class Point(NamedTuple):
    """A value, and the step that logged it."""

    step: int
    value: float


class Trace:
    """The points of one metric: of many, every second, fourth, ... one is kept.

    Attributes:
        count: How many there were.
        nonfinite: How many of them were NaN or an infinity.
        last: The newest.
    """

    def __init__(self) -> None:
        self.count = 0
        self.nonfinite = 0
        self.last = Point(0, math.nan)
        self._kept: list[Point] = []
        self._apart = 1
        self._recent: deque[Point] = deque(maxlen=_RECENT)

    def add(self, step: int, value: float) -> None:
        """Append a point."""
        self.last = Point(step, as_float(value))
        self._recent.append(self.last)
        self.nonfinite += not math.isfinite(self.last.value)
        if self.count % self._apart == 0:
            self._kept.append(self.last)
        self.count += 1
        if len(self._kept) > _MOST:
            self._kept = self._kept[::2]
            self._apart *= 2

    def rewind(self, step: int) -> bool:
        """Forget what is superseded: training goes on from a step. Gives whether anything is left."""
        if self.last.step <= step:
            return True
        kept = [point for point in self._kept if point.step <= step]
        self._recent = deque((point for point in self._recent if point.step <= step), maxlen=_RECENT)
        if not self._recent:
            self._recent.extend(kept[-1:])
        self.count = round(self.count * len(kept) / max(len(self._kept), 1))
        self.nonfinite = sum(not math.isfinite(point.value) for point in kept)
        self._kept = kept
        if self._recent:
            self.last = self._recent[-1]
        return bool(self._recent)

    def points(self) -> list[Point]:
        """The kept points, the newest one at the end."""
        is_kept = bool(self._kept) and self._kept[-1] is self.last
        return self._kept if is_kept else [*self._kept, self.last]

    @property
    def change(self) -> float | None:
        """How much the newest value is above that of ten logs before; None of fewer than two points."""
        if len(self._recent) < 2:  # noqa: PLR2004  # a change needs two
            return None
        return self.last.value - self._recent[0].value
