"""What does it cost to read something: seconds, and memory beside that of the table that comes out."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Read = Callable[[str], object]


class Cost(NamedTuple):
    """What one reading cost.

    Attributes:
        seconds: How long it took.
        grown: By how much the process grew at the most, in bytes; Linux alone tells.
        table: Size of the table that came out, in bytes; 0 for what is no table of pandas.
    """

    seconds: float
    grown: int
    table: int


def in_turns(ways: Mapping[str, tuple[Read, str, str]], rounds: int) -> dict[str, list[Cost]]:
    """Read in each way in turns, by `once`.

    Args:
        ways: By name, what `once` is given.
        rounds: How often.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            costs[name].append(once(*way))
    return costs


def once(read: Read, source: str, small: str) -> Cost:
    """Read a source in a fresh process that has read something small before.

    Args:
        read: A function of a module.
        source: What it is to read.
        small: What it reads before, so that all it needs is imported; empty for nothing.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cost, read, source, small).result()


def _cost(read: Read, source: str, small: str) -> Cost:
    if small:
        read(small)
    before = _peak()
    began = time.perf_counter()
    told = read(source)
    return Cost(time.perf_counter() - began, _peak() - before, _size(told))


def _peak() -> int:
    """The most memory that this process has had; `ru_maxrss` would begin at its parent's."""
    told = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
    return 1024 * int(told.split()[0])


def _size(table: Any) -> int:  # noqa: ANN401  # whatever a contender gives
    usage = getattr(table, "memory_usage", None)
    return int(usage(deep=True).sum()) if callable(usage) else 0


def median(costs: list[Cost]) -> float:
    """Seconds."""
    return statistics.median(cost.seconds for cost in costs)
