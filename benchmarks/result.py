"""What does a benchmark say: tables of numbers, goals, and notes on how they came about."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Row(msgspec.Struct, frozen=True):
    """One contender, or one ratio, with a number for each column; None where it has none."""

    name: str
    figures: tuple[float | None, ...]


class Table(msgspec.Struct, frozen=True):
    """Numbers side by side; the columns' names tell the unit."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class Goal(msgspec.Struct, frozen=True):
    """What was aimed at, and what came out.

    Attributes:
        text: What is measured, with its unit.
        is_to_be: Whether `limit` is the most or the least that is wanted.
        limit: Where the goal ends.
        measured: What came out.
    """

    text: str
    is_to_be: Literal["under", "over"]
    limit: float
    measured: float

    @property
    def is_met(self) -> bool:
        """Whether what came out is on the wanted side of the limit."""
        return self.measured < self.limit if self.is_to_be == "under" else self.measured > self.limit


class Result(msgspec.Struct, frozen=True):
    """The answer of one benchmark to its question."""

    name: str
    question: str
    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()
    notes: str = ""


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and most."""
    return min(values), statistics.median(values), max(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide pair by pair."""
    return [a / b for a, b in zip(above, below, strict=True)]
