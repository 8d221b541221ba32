"""How fast does a counter grow?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Rates:
    """Tells the growth per second of counters, each from two readings.

    Args:
        clock: Seconds that never step back; the system's monotonic clock stands still with the machine.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, float, Hashable]] = {}

    def of(self, name: str, total: float, *, source: Hashable = None) -> float | None:
        """Take a reading of a counter and tell how much it grew per second since the one before.

        Args:
            name: Which counter.
            total: What it says.
            source: What it counts; readings of two different things say nothing together.

        Returns:
            None for a first reading, and where the counter stepped back or no time has passed.
        """
        now = self._clock()
        then, before, of_what = self._last.get(name, (now, total, source))
        self._last[name] = (now, total, source)
        if now <= then or total < before or source != of_what:
            return None
        return (total - before) / (now - then)
