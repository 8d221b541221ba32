"""Are the gradients, and the loss, of a size with which training works?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.health.robust import median, spread
from rldk.health.rule import Evidence, Persistence, Rule, Severity, Verdict, firing, ok, unavailable, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 10
_RECENT: Final = 5
_BEFORE: Final = 50
_TIMES: Final = 10.0
_CRITICAL_TIMES: Final = 100.0
_SIGMAS: Final = 8.0
_ZERO: Final = 1e-12
_ROW: Final = 5
_ROW_OF_GROUPS: Final = 15
_ROW_AT_START: Final = 10
_GROUPED: Final = frozenset({"GRPO", "RLOO"})
_RELATIVE_RISE: Final = 0.5
_RISEN: Final = 4.0
_GONE: Final = 8.0


class GradientSpike(Rule):
    """The gradient norm is a multiple of what it was lately.

    Zeros are left out of what it is compared with: a batch whose groups all got one reward has no gradient.
    Where the loss stays down, the optimizer copes with it, as with the gradient of a reward model that
    grows with the size of its scores: that is no more than a piece of information.
    """

    name = "grad_norm_spike"
    title = "Gradient norm spike"
    reads = units(grad_norm="1")
    looks_at = ("loss",)
    warm_up = _BASELINE
    persistence = Persistence(2, 5)
    meaning = (
        "gradients far beyond the usual ones move the weights to where nothing was learnt, unless they "
        "are clipped"
    )
    advice = (
        "clip the gradient (max_grad_norm), lower the learning rate, lengthen its warm-up; look at the "
        "batch of that step"
    )
    source = (
        "Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks, 2013 "
        "(arXiv:1211.5063)"
    )

    def judge(self, window: Window) -> Verdict:
        """Ten times the median of up to 50 points before, and 8 of their standard deviations above it."""
        series = window.series("grad_norm")
        before = [norm for norm in series.before_last(_RECENT, _BEFORE) if norm > _ZERO]
        if len(before) < _RECENT:
            return unavailable(f"{len(before)} of the points before have a gradient, and it needs {_RECENT}")
        now, usual = series.latest, median(before)
        limit = max(_TIMES * usual, usual + _SIGMAS * spread(before))
        evidence: Evidence = {"grad_norm": now, "usual_median": usual, "limit": limit}
        told = f"grad_norm is {now:.3g}, {now / usual:.3g} times its usual {usual:.3g}"
        if now < limit:
            return ok(told, **evidence)
        if not _is_loss_up(window):
            return firing("info", f"{told}; the loss is not up", **evidence)
        lasting = median(series.last(_RECENT)) >= _CRITICAL_TIMES * usual
        return firing("critical" if lasting else "warning", told, **evidence)


def _is_loss_up(window: Window) -> bool:
    """Whether the loss has risen, too; that of GRPO and RLOO cannot tell, and counts as risen."""
    series = window.series("loss")
    before = series.before_last(_RECENT, _BEFORE)
    if window.trainer in _GROUPED or len(before) < _RECENT:
        return True
    return median(series.last(_RECENT)) > median(before) + spread(before)


class ZeroGradients(Rule):
    """Nothing is learnt: the gradient is zero, log after log."""

    name = "zero_gradients"
    title = "Zero gradients"
    reads = units(grad_norm="1")
    warm_up = _ROW
    persistence = Persistence(1, 1)
    cooldown = 50
    meaning = "no parameter that is trained gets a gradient"
    advice = (
        "check requires_grad, that the optimizer holds the parameters that are used, and, where rewards are "
        "compared in groups, that they differ (see constant_reward and zero_variance_groups)"
    )
    source = "Yu et al.: DAPO, 2025 (arXiv:2503.14476), section 3.2 (groups of one reward have no gradient)"

    def judge(self, window: Window) -> Verdict:
        """Zero in 5 points in a row, in 15 with groups; critical where it never was anything else."""
        series = window.series("grad_norm")
        row = _ROW_OF_GROUPS if window.trainer in _GROUPED else _ROW
        if series.latest > _ZERO:
            return ok(f"grad_norm is {series.latest:.3g}")
        never = len(series) >= min(row, _ROW_AT_START) and not any(norm > _ZERO for norm in series.first(64))
        is_zero = all(norm <= _ZERO for norm in series.last(row)) and len(series) >= row
        if never and all(norm <= _ZERO for norm in series.last(row)):
            return firing("critical", f"grad_norm has been 0 in all {len(series)} points", points=len(series))
        if is_zero:
            return firing("warning", f"grad_norm has been 0 in the last {row} points", points=row)
        return ok(f"grad_norm is {series.latest:.3g}")


class LossSpike(Rule):
    """The loss leaps, or leaves for good.

    The loss of GRPO and RLOO is about zero by construction, and its size says nothing. A training that
    diverges at its second step has no baseline but its first point, which with small batches is noisy:
    so it takes four times that.
    """

    name = "loss_spike"
    title = "Loss spike"
    reads = units(loss="1")
    trainers = ("SFT", "DPO", "KTO", "Reward", "PPO", "OnlineDPO")
    warm_up = _RECENT
    persistence = Persistence(3, 5)
    meaning = "the loss is far above what it was, as after updates that were too large"
    advice = (
        "lower the learning rate or lengthen its warm-up, clip the gradient; go on from a checkpoint "
        "before the spike"
    )
    source = "Chowdhery et al.: PaLM, 2022 (arXiv:2204.02311), section 5.1"

    def judge(self, window: Window) -> Verdict:
        """Four times the first point, or half as much again as usual; critical at eight times the first."""
        series = window.series("loss")
        start, lately = series.first(1)[0], median(series.last(_RECENT))
        if start > 0 and lately >= _RISEN * start and window.trainer != "PPO":
            told = f"the median of the last {_RECENT} loss is {lately:.3g}; training began with {start:.3g}"
            severity: Severity = "critical" if lately >= _GONE * start else "warning"
            return firing(severity, told, recent_median=lately, start=start, limit=_RISEN * start)
        before = series.before_last(_RECENT, _BEFORE)
        if len(before) < _RECENT:
            return ok()
        now, usual = series.latest, median(before)
        best = min(usual, series.start(_BASELINE))
        rise = max(_RELATIVE_RISE * abs(best), _SIGMAS * spread(series.first(_BASELINE)), _ZERO)
        told = f"loss is {now:.3g}; it was {usual:.3g} lately, and {start:.3g} at the start"
        evidence: Evidence = {"loss": now, "usual_median": usual, "start": start, "limit": best + rise}
        if now < best + rise:
            return ok(told, **evidence)
        is_gone = lately > start + max(abs(start), rise)
        return firing("critical" if is_gone else "warning", told, **evidence)
