"""What does it cost to read something: seconds, and memory beside that of the table that comes out."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[str], object]

_UNIT = 1 if sys.platform == "darwin" else 1024


class Cost(NamedTuple):
    """What one reading cost.

    Attributes:
        seconds: How long it took.
        grown: By how much the process grew at the most, in bytes.
        table: Size of the table that came out, in bytes; 0 for what is no table of pandas.
    """

    seconds: float
    grown: int
    table: int


def in_turns(ways: Mapping[str, tuple[Read, str, str]], rounds: int) -> dict[str, list[Cost]]:
    """Read in each way in turns, each time in a fresh process that has read something small before.

    Args:
        ways: By name: a function of a module, what it reads, and the small thing.
        rounds: How often.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                costs[name].append(pool.submit(_cost, *way).result())
    return costs


def _cost(read: Read, source: str, small: str) -> Cost:
    read(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    told = read(source)
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * _UNIT
    return Cost(seconds, grown, _size(told))


def _size(table: Any) -> int:  # noqa: ANN401  # whatever a contender gives
    usage = getattr(table, "memory_usage", None)
    return int(usage(deep=True).sum()) if callable(usage) else 0


def median(costs: list[Cost]) -> float:
    """Seconds."""
    return statistics.median(cost.seconds for cost in costs)
