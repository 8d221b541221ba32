"""The line of `log_interval`: where the run stands, its main metrics, what fires."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.report.status import line, span
from rldk.testing import runs as hostile


def test_a_grpo_run_in_its_midst():
    """Step, part, time left; three digits and units; the rules that fire."""
    metrics = {
        "loss": 0.0012,
        "kl_mean": 0.05123,
        "reward_mean": 0.6234,
        "lr": 1e-6,
        "completion_len_mean": 2123.4,
    }
    told = line(
        120, metrics, trainer="GRPO", total=1000, since_step=20, elapsed_s=100.0, firing=["kl_drift", "x"]
    )
    assert told == (
        "step 120 of 1,000 (12 %), 14 min 40 s left; reward_mean 0.623, kl_mean 0.0512 nats/token, "
        "completion_len_mean 2,123 tokens, loss 0.0012, lr 1e-6; firing: kl_drift, x"
    )


def test_what_is_broken_comes_first():
    """Also a metric that is none of the main ones."""
    assert line(5, {"loss": 1.0, "own": math.nan}, trainer="SFT") == "step 5; own NaN, loss 1"


def test_nothing_is_left_at_the_end_or_before_the_first_step():
    """Nobody knows how long, or it is over."""
    assert line(10, {}, total=10, elapsed_s=5.0) == "step 10 of 10 (100 %)"
    assert line(0, {}, total=10, elapsed_s=5.0) == "step 0 of 10 (0 %)"


@given(st.integers(0, 2**62), st.dictionaries(hostile.names(), hostile.numbers()), st.integers(0, 2**62))
def test_any_log_gives_a_line(step, metrics, total):
    """Whatever it holds."""
    assert line(step, metrics, total=total, elapsed_s=3.0).startswith("step ")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (12, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (90000, "1 d 1 h"), (3600, "1 h")],
)
def test_time_spans(seconds, told):
    """Their two greatest units."""
    assert span(seconds) == told


def test_it_is_cheap_to_import():
    """The callback has it from the first step on."""
    heavy = "'pandas', 'matplotlib', 'torch', 'numpy'"
    code = f"import sys, rldk.report.status; assert not {{{heavy}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
