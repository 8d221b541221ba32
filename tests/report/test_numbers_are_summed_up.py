"""Slopes, medians and thinned lines are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.report import numbers


def test_the_slope_is_the_line_s_whatever_a_few_points_are():
    """One point in five is wild."""
    steps = np.arange(0, 500, 10)
    values = 3.0 + 0.002 * steps
    values[::5] = 1e6
    assert numbers.slope(steps, values) == pytest.approx(2.0)


def test_the_slope_of_many_points_is_that_of_all():
    """Of 10,000, of which 200 medians are taken."""
    steps = np.arange(10_000)
    noise = np.random.default_rng(0).normal(size=10_000)
    assert numbers.slope(steps, 0.01 * steps + noise) == pytest.approx(10.0, rel=0.01)


def test_no_slope_without_two_steps():
    """Of one point, or of none."""
    assert numbers.slope(np.array([1]), np.array([2.0])) is None
    assert numbers.slope(np.array([], dtype=np.int64), np.array([])) is None


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=500), st.integers(1, 20))
def test_a_thinned_line_keeps_its_ends_and_extremes(values, most):
    """And is short."""
    values = np.array(values)
    chosen = numbers.thinned(np.arange(len(values)), values, most)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) <= max(2 * most + 2, 2)
    kept = values[chosen]
    assert {kept.min(), kept.max()} == {values.min(), values.max()}
    assert {chosen[0], chosen[-1]} == {0, len(values) - 1}


def test_the_running_median_does_not_see_single_spikes():
    """Nor does it miss a step that stays."""
    values = np.zeros(1000)
    values[[100, 101, 600]] = 1e9
    values[700:] = 5.0
    steps, medians = numbers.running_median(np.arange(1000), values)
    assert len(steps) == len(medians) <= 160
    assert set(medians[steps < 650]) == {0.0}
    assert set(medians[steps > 750]) == {5.0}


def test_the_mean_of_great_numbers_is_finite():
    """Their sum is not."""
    assert numbers.mean(np.array([1.5e308, 1.5e308])) == pytest.approx(1.5e308)
