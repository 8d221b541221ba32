"""Do the policy's updates stay where their theory holds: clipping, importance ratios, entropy?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.health.robust import median
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 10
_RECENT: Final = 5
_MUCH_CLIPPED: Final = 0.3
_TIMES: Final = 3.0
_COLLAPSED: Final = 0.1
_CERTAIN: Final = 0.05
_MORE_ENTROPY: Final = 0.5
_CLIP_RANGE: Final = 0.2
_FAR_RATIO: Final = 1.0


class ClippedUpdates(Rule):
    """Many of the importance ratios are clipped: what is clipped teaches nothing."""

    name = "clip_fraction"
    title = "High clipping fraction"
    reads = units(clip_frac="fraction")
    trainers = ("PPO", "GRPO", "RLOO")
    warm_up = _BASELINE
    persistence = Persistence(3, 5)
    meaning = "the policy moves so far within one batch of samples that the clipped objective holds it back"
    advice = "lower the learning rate, or take fewer passes over each batch (num_ppo_epochs, num_iterations)"
    source = "Schulman et al.: Proximal policy optimization algorithms, 2017 (arXiv:1707.06347)"

    def cannot_apply(self, window: Window) -> str:
        """On-policy all ratios are 1, and nothing can be clipped."""
        if window.trainer in {"GRPO", "RLOO"} and _is_on_policy(window):
            return "training is on-policy: each batch of samples is used once, so that no ratio is clipped"
        return ""

    def judge(self, window: Window) -> Verdict:
        """The median of the last ten points is 0.3 or more."""
        share = median(window.series("clip_frac").last(_BASELINE))
        told = f"the median of the last {_BASELINE} clip_frac is {share:.3g}"
        is_bad = share >= _MUCH_CLIPPED
        return firing("warning", told, share=share, limit=_MUCH_CLIPPED) if is_bad else ok(told, share=share)


def _is_on_policy(window: Window) -> bool:
    """Whether each batch of samples is used for one update; unknown arguments count by their effect."""
    iterations = window.argument("num_iterations")
    if iterations is None:
        clipped = window.series("clip_frac")
        return len(clipped) > 0 and not any(clipped.last(_BASELINE)) and not any(clipped.first(_BASELINE))
    accumulated = window.argument("gradient_accumulation_steps") or 1
    generated = window.argument("steps_per_generation") or accumulated
    return iterations == 1 and generated <= accumulated


class RatioOutOfRange(Rule):
    """The mean importance ratio of an update is not near 1."""

    name = "ratio_out_of_range"
    title = "PPO ratio out of range"
    reads = units(ratio_mean="1")
    trainers = ("PPO",)
    persistence = Persistence(2, 3)
    meaning = (
        "over the samples of the old policy the ratio's mean is 1; far from it, the samples no longer "
        "tell of the policy"
    )
    advice = (
        "lower the learning rate or num_ppo_epochs; at the very first update look for a difference "
        "between sampling and scoring"
    )
    source = "Huang et al.: The 37 implementation details of PPO, 2022 (iclr-blog-track.github.io)"

    def judge(self, window: Window) -> Verdict:
        """Farther from 1 than cliprange: a warning; than 1: critical."""
        allowed = window.argument("cliprange") or _CLIP_RANGE
        ratio = window.series("ratio_mean").latest
        far = abs(ratio - 1)
        told = f"ratio_mean is {ratio:.4g}, and cliprange is {allowed:g}"
        if far <= allowed:
            return ok(told, ratio_mean=ratio, allowed=allowed)
        return firing("critical" if far > _FAR_RATIO else "warning", told, ratio_mean=ratio, allowed=allowed)


class EntropyCollapse(Rule):
    """The policy has become nearly certain of each token, compared with how it began.

    Entropy falls in good runs too, to a fifth in those we measured; it is the tenth, at next to no
    entropy, that leaves nothing to explore with.
    """

    name = "entropy_collapse"
    title = "Entropy collapse"
    reads = units(entropy_mean="nats/token")
    trainers = ("PPO", "GRPO", "RLOO")
    warm_up = _BASELINE + _RECENT
    persistence = Persistence(3, 5)
    meaning = (
        "the policy samples nearly the same text each time, so that rewards do not differ and nothing "
        "is learnt"
    )
    advice = (
        "raise the temperature, add an entropy bonus or raise the upper clip bound (epsilon_high); raise beta"
    )
    source = "Yu et al.: DAPO, 2025 (arXiv:2503.14476), section 3.1"

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 points is a tenth of the first 10's, and below 0.05 nats per token."""
        now, before, told, evidence = _entropy(window)
        is_bad = now <= _COLLAPSED * before and now <= _CERTAIN
        return (
            firing("warning", told, limit=_COLLAPSED * before, **evidence) if is_bad else ok(told, **evidence)
        )


class EntropyBlowUp(Rule):
    """The policy's entropy is a multiple of what it was: its text dissolves."""

    name = "entropy_blow_up"
    title = "Entropy blow-up"
    reads = units(entropy_mean="nats/token")
    trainers = ("PPO", "GRPO", "RLOO")
    warm_up = _BASELINE + _RECENT
    persistence = Persistence(3, 5)
    meaning = "the policy has lost its language: it spreads its probability over more and more tokens"
    advice = (
        "lower the learning rate or the entropy bonus, and check that nothing rewards noise; go back "
        "to an earlier checkpoint"
    )
    source = "Cui et al.: The entropy mechanism of RL for reasoning language models, 2025 (arXiv:2505.22617)"

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 points is three times the first 10's, and 0.5 nats per token above."""
        now, before, told, evidence = _entropy(window)
        limit = max(_TIMES * before, before + _MORE_ENTROPY)
        return firing("warning", told, limit=limit, **evidence) if now >= limit else ok(told, **evidence)


def _entropy(window: Window) -> tuple[float, float, str, Evidence]:
    series = window.series("entropy_mean")
    now, before = median(series.last(_RECENT)), series.start(_BASELINE)
    told = (
        f"the median of the last {_RECENT} entropy_mean is {now:.3g} nats/token, that of the first "
        f"{_BASELINE} was {before:.3g}"
    )
    return now, before, told, {"recent_median": now, "baseline_median": before}
