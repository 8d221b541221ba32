"""Does PPO's value model follow the returns?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.health.robust import median, spread
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 10
_RECENT: Final = 5
_TIMES: Final = 5.0
_SIGMAS: Final = 8.0
_CLIPPED: Final = 0.5


class ValueLoss(Rule):
    """The value model's error is a multiple of what it was."""

    name = "value_loss"
    title = "Value loss"
    reads = units(value_loss="1")
    trainers = ("PPO",)
    warm_up = _BASELINE + _RECENT
    persistence = Persistence(3, 5)
    meaning = "the value model does not follow the returns, so that advantages are noise"
    advice = (
        "whiten or scale the rewards, lower the learning rate or vf_coef, and check for rewards of a new size"
    )
    source = "Huang et al.: The 37 implementation details of PPO, 2022 (iclr-blog-track.github.io)"

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 points is five times that of the first 10, and 8 deviations above."""
        series = window.series("value_loss")
        start = series.first(_BASELINE)
        now, before = median(series.last(_RECENT)), median(start)
        limit = max(_TIMES * before, before + _SIGMAS * spread(start))
        told = (
            f"the median of the last {_RECENT} value_loss is {now:.3g}, that of the first {_BASELINE} "
            f"was {before:.3g}"
        )
        evidence: Evidence = {"recent_median": now, "baseline_median": before, "limit": limit}
        return firing("warning", told, **evidence) if now > limit else ok(told, **evidence)


class ValueClipping(Rule):
    """Most of the value updates are clipped."""

    name = "value_clipping"
    title = "Value clipping"
    reads = units(value_clip_frac="fraction")
    trainers = ("PPO",)
    warm_up = _BASELINE
    persistence = Persistence(5, 5)
    cooldown = 30
    meaning = "the value model may move by cliprange_value alone, and the returns are farther away than that"
    advice = "raise cliprange_value to the size of your rewards, or scale the rewards"
    source = "Andrychowicz et al.: What matters in on-policy RL?, 2020 (arXiv:2006.05990), section 3.5"

    def judge(self, window: Window) -> Verdict:
        """The median of the last 5 points is half of the tokens or more."""
        share = median(window.series("value_clip_frac").last(_RECENT))
        told = f"the median of the last {_RECENT} value_clip_frac is {share:.3g}"
        return (
            firing("warning", told, share=share, limit=_CLIPPED)
            if share >= _CLIPPED
            else ok(told, share=share)
        )
