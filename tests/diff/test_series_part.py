"""Where two series part, and how far apart they are in the end, for any numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.diff.series import Tolerance, agree, end, partings
from rldk.report.story import Series

EXACT = Tolerance(0.0, 0.0)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
POINTS = st.dictionaries(st.integers(0, 60), FLOATS, max_size=30)


def series(points):
    """A series from step to value."""
    steps = sorted(points)
    return Series("m", np.array(steps, np.int64), np.array([points[step] for step in steps], np.float64))


@given(FLOATS, FLOATS, st.sampled_from([0.0, 1e-6, 0.1]), st.sampled_from([0.0, 1e-3]))
def test_two_numbers_are_the_same_as_isclose_has_it(a, b, rtol, atol):
    """And NaN is NaN; NumPy's own rule is not symmetric."""
    same = bool(agree(np.array([a]), np.array([b]), Tolerance(rtol, atol))[0])
    both_nan = math.isnan(a) and math.isnan(b)
    assert same == (both_nan or math.isclose(a, b, rel_tol=rtol, abs_tol=atol))


@given(POINTS, POINTS, st.sets(st.integers(0, 60)))
def test_the_first_parting_is_what_a_plain_search_finds(a, b, also_logged):
    """Step by step, for any two runs, with what one lacks at a step that both logged."""
    logged = sorted((a.keys() | also_logged) & (b.keys() | also_logged))
    found = partings(series(a), series(b), np.array(logged, np.int64), EXACT)
    plain = [
        step
        for step in sorted(a.keys() | b.keys())
        if (
            step in a
            and step in b
            and not (a[step] == b[step] or (a[step] != a[step] and b[step] != b[step]))
        )
        or ((step in a) != (step in b) and step in logged)
    ]
    assert found.points == len(a.keys() & b.keys())
    assert found.differing == len(plain)
    assert (found.first.step if found.first else None) == (plain[0] if plain else None)


@given(POINTS, POINTS)
def test_the_comparison_is_the_same_from_both_sides(a, b):
    """Only the names change, and the sign."""
    logged = np.array(sorted(a.keys() | b.keys()), np.int64)
    there, back = (
        partings(*pair, logged, EXACT) for pair in ((series(a), series(b)), (series(b), series(a)))
    )
    assert (there.points, there.differing) == (back.points, back.differing)
    assert (there.first and there.first.step) == (back.first and back.first.step)


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (0.0, 1e-9, "value"),
        (math.nan, 0.0, "not finite"),
        (math.nan, math.inf, "not finite"),
        (math.inf, -math.inf, "not finite"),
        (None, 0.0, "missing"),
        (math.nan, None, "missing"),
    ],
)
def test_missing_zero_and_nan_are_three_things(a, b, kind):
    """None of them is the same as another one."""
    mine, theirs = ({1: 1.0} | ({} if value is None else {2: value}) for value in (a, b))
    first = partings(series(mine), series(theirs), np.array([1, 2]), Tolerance(0.5, 0.0)).first
    assert (first.step, first.kind) == (2, kind)
    assert repr((first.a, first.b)) == repr((a, b))


def noisy(seed, level, points=200):
    """A series with noise of standard deviation 1 about a trend."""
    random = np.random.default_rng(seed)
    return Series("m", np.arange(points), 0.05 * np.arange(points) + level + random.normal(size=points))


def test_two_seeds_of_one_setting_are_seldom_apart():
    """Independent noise passes 3 standard errors hardly ever."""
    apart = [end(noisy(i, 0.0), noisy(1000 + i, 0.0), 199, EXACT).is_apart for i in range(200)]
    assert sum(apart) <= 4


def test_the_distance_is_told_in_standard_deviations_of_a_point():
    """A shift of 2 is about 2 of them, whatever the trend."""
    distances = [end(noisy(i, 0.0), noisy(1000 + i, 2.0), 199, EXACT).distance for i in range(50)]
    assert 1.8 < float(np.median(distances)) < 2.2
    found = end(noisy(1, 0.0), noisy(2, 2.0), 199, EXACT)
    assert found.is_apart
    assert found.points_a == found.points_b == 20


def test_the_end_is_where_the_shorter_run_ends():
    """What one measured later is not compared with what the other never reached."""
    assert end(noisy(1, 0.0, 100), noisy(1, 0.0, 400), 99, EXACT).points_b == 10


def test_few_points_tell_no_noise():
    """Then nobody says that the two are apart, unless they are the same."""
    few, other = series({1: 1.0, 2: 2.0}), series({1: 5.0, 2: 6.0})
    assert end(few, other, 2, EXACT).is_apart is None
    assert end(few, few, 2, EXACT).is_apart is False


def test_without_noise_every_difference_counts():
    """A learning rate has none."""
    flat, higher = series(dict.fromkeys(range(20), 1.0)), series(dict.fromkeys(range(20), 1.1))
    found = end(flat, higher, 19, EXACT)
    assert (found.distance, found.is_apart) == (math.inf, True)
    assert end(flat, higher, 19, Tolerance(0.2, 0.0)).is_apart is False


def test_nothing_finite_has_no_end():
    """NaN alone, be it from the beginning or later; a single one in the end is passed over."""
    well = series({step: float(step) for step in range(1, 41)})
    assert end(series({1: math.nan}), series({1: 1.0}), 1, EXACT) is None
    gone, once = (
        series({step: math.nan if is_there(step) else float(step) for step in range(1, 41)})
        for is_there in (lambda step: step > 30, lambda step: step == 38)
    )
    assert end(well, gone, 40, EXACT) is None
    assert end(well, once, 40, EXACT).points_b == 4
