"""How do two series of numbers differ: where first, and how far in the end? Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from rldk.diff.result import End, Kind, Parting
from rldk.health import robust

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rldk.report.story import Series
    from rldk.rows import Places, Values

_LAST_PART: Final = 0.1
_FEWEST_LAST: Final = 5
_NOISE_PART: Final = 0.5
_FEWEST_FOR_NOISE: Final = 8
_STANDARD_ERRORS: Final = 3.0


class Tolerance(NamedTuple):
    """What counts as the same: `|a - b| <= max(atol, rtol * max(|a|, |b|))`, as `math.isclose` has it."""

    rtol: float
    atol: float


class Partings(NamedTuple):
    """Where two series differ.

    Attributes:
        points: At how many steps both were measured.
        differing: At how many steps they differ.
        first: The first of these.
        largest: The step at which two finite numbers that differ are furthest apart.
    """

    points: int
    differing: int
    first: Parting | None
    largest: Parting | None


def agree(a: Values, b: Values, tolerance: Tolerance) -> NDArray[np.bool_]:
    """Whether pairs of numbers are the same.

    NaN is the same as NaN, an infinity as itself, and finite numbers as such that are near: the symmetric
    rule of PEP 485. With `atol` 0 nothing but zero is near to zero.

    Args:
        a: Numbers, of shape (points,).
        b: Numbers, of shape (points,).
        tolerance: How near is near.

    Returns:
        A boolean for each pair, of shape (points,).
    """
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(over="ignore", invalid="ignore"):
        room = np.maximum(tolerance.atol, tolerance.rtol * np.maximum(np.abs(a), np.abs(b)))
        near = np.abs(a - b) <= room
    same: NDArray[np.bool_] = np.where(finite, near, (a == b) | (np.isnan(a) & np.isnan(b)))
    return same


def partings(a: Series, b: Series, logged: Places, tolerance: Tolerance) -> Partings:
    """Find where two series of one metric differ.

    Args:
        a: The first.
        b: The second.
        logged: The steps that both runs logged, growing, of shape (steps,): at these a metric that one of
            them lacks is a difference.
        tolerance: What counts as the same.
    """
    _, in_a, in_b = np.intersect1d(a.steps, b.steps, assume_unique=True, return_indices=True)
    x, y = a.values[in_a], b.values[in_b]
    apart = np.flatnonzero(~agree(x, y, tolerance))
    found = [_parting(int(a.steps[in_a][i]), float(x[i]), float(y[i])) for i in apart[:1]]
    lone_a, lone_b = _alone(a, b, logged), _alone(b, a, logged)
    found += [Parting(step=int(a.steps[i]), kind="missing", a=float(a.values[i]), b=None) for i in lone_a[:1]]
    found += [Parting(step=int(b.steps[i]), kind="missing", a=None, b=float(b.values[i])) for i in lone_b[:1]]
    largest = _largest(x, y, apart)
    return Partings(
        points=len(x),
        differing=len(apart) + len(lone_a) + len(lone_b),
        first=min(found, key=_step, default=None),
        largest=None
        if largest is None
        else _parting(int(a.steps[in_a][largest]), float(x[largest]), float(y[largest])),
    )


def _step(parting: Parting) -> int:
    return parting.step


def _parting(step: int, a: float, b: float) -> Parting:
    kind: Kind = "value" if math.isfinite(a) and math.isfinite(b) else "not finite"
    return Parting(step=step, kind=kind, a=a, b=b)


def _alone(series: Series, other: Series, logged: Places) -> NDArray[np.int64]:
    """Places of the points at steps that both runs logged, and where the other series has none."""
    is_lone = np.isin(series.steps, logged) & ~np.isin(series.steps, other.steps)
    return np.flatnonzero(is_lone)


def _largest(a: Values, b: Values, apart: NDArray[np.int64]) -> int | None:
    finite = apart[np.isfinite(a[apart]) & np.isfinite(b[apart])]
    if not len(finite):
        return None
    with np.errstate(over="ignore"):
        return int(finite[np.argmax(np.abs(a[finite] - b[finite]))])


def end(a: Series, b: Series, last: int, tolerance: Tolerance) -> End | None:
    """Tell how far apart two series are in the end: over the last tenth, at least 5 points, of each.

    The difference of the means is told in units of the noise of one point, `d = (mean_b - mean_a) / s`, which
    is Cohen's d (Statistical Power Analysis for the Behavioral Sciences, 1988) with a robust `s`: the noise
    about a slow trend, `rldk.health.robust.noise` (after von Neumann, 1941), over the second half of each
    series, `s = sqrt((s_a^2 + s_b^2) / 2)`. Runs of different seeds differ at every step; that they are
    apart is said where the difference is more than 3 standard errors, `s * sqrt(1 / n_a + 1 / n_b)`. One run
    of each setting cannot tell the setting from the seed (Henderson et al., Deep Reinforcement Learning
    that Matters, AAAI 2018): repeat both before you believe it.

    Args:
        a: The first.
        b: The second.
        last: The last step that both runs reached.
        tolerance: What counts as the same where there is no noise.

    Returns:
        None where one of them has no finite number in its last tenth.
    """
    mine, theirs = a.values[a.steps <= last], b.values[b.steps <= last]
    tail_a, tail_b = (_finite(_tail(each, _LAST_PART, _FEWEST_LAST)) for each in (mine, theirs))
    if not len(tail_a) or not len(tail_b):
        return None
    mean_a, mean_b = robust.mean(tail_a.tolist()), robust.mean(tail_b.tolist())
    difference = mean_b - mean_a
    noise = _noise(_finite(mine), _finite(theirs))
    distance = None if noise is None else _over(difference, noise)
    share = math.sqrt(1 / len(tail_a) + 1 / len(tail_b))
    errors = None if distance is None else distance / share
    is_same = bool(agree(np.array([mean_a]), np.array([mean_b]), tolerance)[0])
    return End(
        points_a=len(tail_a),
        points_b=len(tail_b),
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference,
        noise=noise,
        distance=distance,
        standard_errors=errors,
        is_apart=False if is_same else None if errors is None else abs(errors) > _STANDARD_ERRORS,
    )


def last_of(series: Series, last: int) -> float | None:
    """Give the last number of a series up to a step; None where there is none."""
    reached = series.values[series.steps <= last]
    return float(reached[-1]) if len(reached) else None


def _finite(values: Values) -> Values:
    return values[np.isfinite(values)]


def _tail(values: Values, part: float, fewest: int) -> Values:
    return values[-max(round(len(values) * part), fewest) :]


def _noise(a: Values, b: Values) -> float | None:
    """The noise of both together; None where one has too few points."""
    if min(len(a), len(b)) < _FEWEST_FOR_NOISE:
        return None
    of_each = [robust.noise(_tail(each, _NOISE_PART, _FEWEST_FOR_NOISE).tolist()) for each in (a, b)]
    return math.hypot(*of_each) / math.sqrt(2)


def _over(difference: float, noise: float) -> float:
    if noise > 0:
        return difference / noise
    return 0.0 if difference == 0 else math.copysign(math.inf, difference)
