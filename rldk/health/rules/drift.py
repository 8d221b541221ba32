"""Does the policy run away from its reference?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rldk.health.robust import deviation, mean, median
from rldk.health.rule import (
    Evidence,
    Persistence,
    Rule,
    Severity,
    Verdict,
    firing,
    ok,
    silent,
    unavailable,
    units,
)

if TYPE_CHECKING:
    from rldk.health.window import Window

_START: Final = 3
_RECENT: Final = 5
_TIMES: Final = 10.0
_FAR: Final = {"grown": 0.5, "warning": 1.0, "critical": 2.0}
"""Nats per token. At 2 the policy gives each token that it samples 7.4 times the reference's probability."""
_FAR_SEQUENCE: Final = {"grown": 50.0, "warning": 100.0, "critical": 200.0}
"""Nats per sequence, at most; with short responses less, by the token's limits."""
_TEST: Final = 10
_SIGMAS: Final = 4.0
_ROUNDING: Final = 1e-4


class KLDrift(Rule):
    """The KL per token is far above what it was when training began, or so large that this does not matter.

    A KL that grows from nothing is what training is for, so growth alone says nothing; and as it begins
    with 0 by construction, a policy that runs off at once has no baseline to speak of.
    """

    name = "kl_drift"
    title = "KL drift"
    reads = units(kl_mean="nats/token")
    trainers = ("GRPO", "RLOO")
    warm_up = _RECENT
    persistence = Persistence(3, 5)
    meaning = "the policy is far from its reference, where a learnt reward is no longer to be trusted"
    advice = "raise beta, lower the learning rate, or stop earlier; read samples before you trust the reward"
    source = "Gao, Schulman, Hilton: Scaling laws for reward model overoptimization, 2022 (arXiv:2210.10760)"

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 points: 1 nat per token, or 0.5 and ten times the start; 2: critical."""
        return _judged(window, "kl_mean", "nats/token", _FAR)


class KLDriftOfSequences(Rule):
    """The same for the KL that is summed over a sequence (PPO, OnlineDPO)."""

    name = "kl_drift_sequence"
    title = "KL drift"
    reads = units(kl_seq_mean="nats/sequence")
    trainers = ("PPO", "OnlineDPO")
    warm_up = _RECENT
    persistence = Persistence(3, 5)
    meaning = KLDrift.meaning
    advice = (
        "raise kl_coef (beta), lower the learning rate, or stop earlier; read samples before you trust "
        "the reward"
    )
    source = KLDrift.source

    def judge(self, window: Window) -> Verdict:
        """As `KLDrift`, with limits for a sequence of the response's greatest length, 50 nats at most."""
        tokens = window.argument("response_length") or window.argument("max_new_tokens") or math.inf
        far = {severity: min(most, _FAR[severity] * tokens) for severity, most in _FAR_SEQUENCE.items()}
        return _judged(window, "kl_seq_mean", "nats/sequence", far)


def _judged(window: Window, name: str, unit: str, far: dict[str, float]) -> Verdict:
    series = window.series(name)
    now, before = median(series.last(_RECENT)), series.start(_START)
    evidence: Evidence = {"recent_median": now, "start_median": before, "times": _TIMES, **far}
    has_grown = now >= far["grown"] and now >= _TIMES * max(before, 0.0)
    severity: Severity | None = "warning" if has_grown or now >= far["warning"] else None
    severity = "critical" if now >= far["critical"] else severity
    told = f"the median of the last {_RECENT} {name} is {now:.3g} {unit}; training began with {before:.3g}"
    return firing(severity, told, **evidence) if severity else ok(told, **evidence)


class NegativeKL(Rule):
    """A KL cannot be negative; an estimate of it can, by chance, and not for long.

    k3, as GRPO uses it, is never negative. The mean of k1 is, in truth, the KL: ten points whose mean
    is four standard errors below zero say that the samples are not the policy's.
    """

    name = "kl_negative"
    title = "Negative KL"
    looks_at = ("kl_mean", "kl_seq_mean")
    trainers = ("GRPO", "RLOO", "PPO", "OnlineDPO")
    persistence = Persistence(3, 5)
    meaning = (
        "the estimate of the KL is negative beyond chance: the samples are not drawn from the policy "
        "that is scored"
    )
    advice = (
        "make sure that sampling and scoring agree: temperature, top_k, dropout, padding after the end, and "
        "the precision of the engine that samples; PPO's KL penalty is a bonus as long as this lasts"
    )
    source = "http://joschu.net/blog/kl-approx.html"

    def cannot_apply(self, window: Window) -> str:
        """It needs a KL to the reference."""
        if any(window.has_logged(name) for name in self.looks_at):
            return ""
        is_off = window.trainer in {"GRPO", "RLOO"} and window.argument("beta") == 0
        return "beta is 0, so no KL to a reference is measured" if is_off else "no KL was logged"

    def judge(self, window: Window) -> Verdict:
        """Test whether the mean of the last ten is below zero by more than its noise."""
        name = next((name for name in self.looks_at if name in window.current), None)
        if name is None:
            return silent()
        values = window.series(name).last(_TEST)
        if window.trainer == "GRPO" and values and values[-1] < -_ROUNDING:
            return firing(
                "warning",
                f"kl_mean is {values[-1]:.3g}, and GRPO's k3 estimate has no negative value",
                kl_mean=values[-1],
            )
        if len(values) < _TEST:
            return unavailable(f"{name} has {len(values)} finite points so far, and the rule needs {_TEST}")
        middle = mean(values)
        error = deviation(values) / math.sqrt(len(values))
        evidence: Evidence = {"mean": middle, "standard_error": error, "sigmas": _SIGMAS}
        told = f"the mean of the last {_TEST} {name} is {middle:.3g}, with a standard error of {error:.2g}"
        is_negative = middle < -_ROUNDING and middle + _SIGMAS * error < 0
        return firing("warning", told, **evidence) if is_negative else ok(told, **evidence)
