"""What do the numbers of a metric say: first, last, best, slope; how are many drawn as few? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from rldk.report.schema import MetricSummary, Point

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rldk.report.story import Samples, Series
    from rldk.rows import Places, Values

_LAST_PART: Final = 0.1
_SLOPE_POINTS: Final = 200
_PER_STEPS: Final = 1000
_MEDIANS: Final = 160
_SMOOTHED: Final = 0.04
_LEAST_SMOOTHED: Final = 5
_MOST_SMOOTHED: Final = 501


def summary(series: Series, unit: str, good: str) -> MetricSummary:
    """Sum up a metric that was measured at least once.

    Args:
        series: Its numbers.
        unit: Its unit.
        good: `up`, `down`, or empty where neither direction is good in itself; then none is the best.
    """
    steps, values = series.steps, series.values
    finite = np.isfinite(values)
    known, at = values[finite], steps[finite]
    best = {"up": np.argmax, "down": np.argmin}.get(good)
    return MetricSummary(
        unit=unit,
        good=good,
        count=len(values),
        nonfinite=int((~finite).sum()),
        first=Point(step=int(steps[0]), value=float(values[0])),
        last=Point(step=int(steps[-1]), value=float(values[-1])),
        best=_point(at, known, int(best(known))) if best is not None and len(known) else None,
        min=float(known.min()) if len(known) else None,
        max=float(known.max()) if len(known) else None,
        last_tenth_mean=mean(known[-max(1, round(len(known) * _LAST_PART)) :]),
        slope=slope(at, known),
    )


def _point(steps: Places, values: Values, place: int) -> Point:
    return Point(step=int(steps[place]), value=float(values[place]))


def mean(values: Values) -> float | None:
    """The mean of finite numbers, also of such whose sum no float can hold; None of none."""
    if not len(values):
        return None
    return float(np.mean(values / len(values)) * len(values))


def slope(steps: Places, values: Values) -> float | None:
    """Change per 1000 steps by Theil and Sen: the median slope of all pairs of points.

    One point in four may be anything without a change of the answer. Of more than 200 points the
    medians of 200 neighbourhoods are taken. Sen, P. K. (1968), doi:10.1080/01621459.1968.10480934

    Args:
        steps: Growing, of shape (points,).
        values: Finite, of shape (points,).

    Returns:
        None where there are not two steps to compare.
    """
    if len(values) > _SLOPE_POINTS:
        parts = np.array_split(np.arange(len(values)), _SLOPE_POINTS)
        steps = np.array([steps[part].mean() for part in parts])
        values = np.array([np.median(values[part]) for part in parts])
    left, right = np.triu_indices(len(values), 1)
    runs = (steps[right] - steps[left]).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = (values[right] - values[left])[runs > 0] / runs[runs > 0]
        return float(np.median(slopes) * _PER_STEPS) if len(slopes) else None


def running_median(steps: Places | Values, values: Values) -> tuple[Places | Values, Values]:
    """Smooth a line: the median of each of at most 160 windows that overlap.

    Args:
        steps: Growing, of shape (points,).
        values: Finite, of shape (points,).

    Returns:
        The steps in the middle of each window, and the medians there.
    """
    width = width_of(len(values))
    half = width // 2
    middles = np.unique(np.linspace(0, len(values) - 1, min(_MEDIANS, len(values))).round().astype(np.int64))
    medians = [np.median(values[max(i - half, 0) : i + half + 1]) for i in middles]
    return steps[middles], np.array(medians)


def width_of(count: int) -> int:
    """How many of so many points a window of the running median has."""
    return int(min(max(count * _SMOOTHED, _LEAST_SMOOTHED), _MOST_SMOOTHED, count)) | 1


def thinned(steps: NDArray[np.generic], values: Values, most: int) -> NDArray[np.int64]:
    """Choose the points that a line is drawn by: of each of so many stretches the least and the greatest.

    No spike is lost, and the line looks as if all points were drawn where a stretch is a pixel wide.

    Args:
        steps: Growing, of shape (points,).
        values: Finite, of shape (points,).
        most: How many stretches there are.

    Returns:
        Places of the points, growing; all of them where there are no more than two for each stretch.
    """
    if len(values) <= 2 * most:
        return np.arange(len(values))
    span = float(steps[-1]) - float(steps[0])
    at = (steps.astype(np.float64) - float(steps[0])) / (span or 1.0)
    stretch = np.minimum((at * most).astype(np.int64), most - 1)
    begins = np.flatnonzero(np.diff(stretch, prepend=-1))
    order = np.lexsort((values, stretch))
    ends = np.append(begins[1:], len(values)) - 1
    return np.unique(np.concatenate([order[begins], order[ends], [0, len(values) - 1]]))


def steady(samples: Samples) -> Values:
    """The finite ones of a resource's numbers, of shape (finite samples,)."""
    return samples.values[np.isfinite(samples.values)]
