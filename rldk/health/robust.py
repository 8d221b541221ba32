"""Statistics that a few wild points do not move, over short lists of finite numbers."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAD_TO_SD: Final = 1.4826
"""Ratio of the standard deviation to the median absolute deviation of a normal distribution."""


_MEAN_TO_SD: Final = math.sqrt(math.pi / 2)
"""The same for the mean absolute deviation."""


def median(values: Sequence[float]) -> float:
    """The middle of the sorted values, NaN for none."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, NaN for none."""
    return _sum(values) / len(values) if values else math.nan


def _sum(values: Sequence[float]) -> float:
    """The exact sum, rounded; one that leaves the floats is an infinity, or NaN."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def spread(values: Sequence[float]) -> float:
    """Standard deviation as the median absolute deviation gives it: 1.4826 times that.

    Rousseeuw and Croux, Alternatives to the median absolute deviation, JASA 88 (1993).
    """
    middle = median(values)
    return _MAD_TO_SD * median([abs(value - middle) for value in values])


def noise(values: Sequence[float]) -> float:
    """Standard deviation of a point about a slow trend, from the differences of neighbours.

    von Neumann, Distribution of the ratio of the mean square successive difference to the variance,
    Ann. Math. Statist. 12 (1941), with the median in place of the mean. Where most neighbours are alike,
    as rewards at their ceiling are, the mean absolute difference stands in for the median, which is 0.
    """
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    if not steps:
        return math.nan
    return (_MAD_TO_SD * median(steps) or _MEAN_TO_SD * mean(steps)) / math.sqrt(2)


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation, NaN for fewer than two values."""
    if len(values) < 2:  # noqa: PLR2004  # a deviation needs two
        return math.nan
    middle = mean(values)
    return math.sqrt(_sum([(value - middle) * (value - middle) for value in values]) / (len(values) - 1))


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's correlation of two lists of one length; NaN where either does not vary."""
    x, y = mean(xs), mean(ys)
    xx = _sum([(a - x) * (a - x) for a in xs])
    yy = _sum([(b - y) * (b - y) for b in ys])
    if not xx > 0 or not yy > 0:
        return math.nan
    return _sum([(a - x) * (b - y) for a, b in zip(xs, ys, strict=True)]) / (math.sqrt(xx) * math.sqrt(yy))


def steps_between(values: Sequence[float]) -> list[float]:
    """Differences of neighbours, one fewer than there are values."""
    return [b - a for a, b in itertools.pairwise(values)]
