"""Does the policy learn the preferences that it is shown?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rldk.health.robust import mean, median, noise
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, silent, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 5
_RECENT: Final = 10
_LONG: Final = 30
_NOISY: Final = 64
_EVALUATIONS: Final = 3
_CHANCE: Final = 0.5
_SIGMAS: Final = 2.0
_MOST_ABOVE: Final = 0.1
_A_LOT: Final = 0.1
_MOST: Final = 0.5
_ROW: Final = 10


class PreferenceAccuracy(Rule):
    """After 30 points, the pairs are still ordered as a coin would."""

    name = "preference_accuracy"
    title = "Preferences are not learnt"
    reads = units(pref_accuracy="fraction")
    looks_at = ("eval:pref_accuracy",)
    trainers = ("DPO", "Reward")
    warm_up = _LONG
    persistence = Persistence(5, 5)
    cooldown = 30
    meaning = "the model orders the pairs no better than chance: labels may be shuffled or swapped"
    advice = (
        "read a few pairs with their labels; check that chosen and rejected are not swapped, and the "
        "learning rate"
    )
    source = (
        "Rafailov et al.: Direct preference optimization, 2023 (arXiv:2305.18290); chance is 0.5, its "
        "error that of a binomial"
    )

    def judge(self, window: Window) -> Verdict:
        """The mean accuracy, held out where it is known, is within two standard errors of 0.5 or below."""
        held_out = window.series("pref_accuracy", "eval")
        is_held_out = len(held_out) >= _EVALUATIONS
        values = held_out.last(_EVALUATIONS) if is_held_out else window.series("pref_accuracy").last(_RECENT)
        accuracy, error = mean(values), _error(window, len(values))
        limit = _CHANCE + (min(_SIGMAS * error, _MOST_ABOVE) if not is_held_out else _MOST_ABOVE / 2)
        where = "evaluations" if is_held_out else "points"
        told = f"the mean pref_accuracy of the last {len(values)} {where} is {accuracy:.3g}; chance is 0.5"
        evidence: Evidence = {"accuracy": accuracy, "limit": limit, "standard_error": error}
        return firing("warning", told, **evidence) if accuracy <= limit else ok(told, **evidence)


def _error(window: Window, points: int) -> float:
    """Standard error of an accuracy over the pairs of some points, as if each were seen once."""
    batch = window.argument("per_device_train_batch_size") or 1
    batch *= window.argument("gradient_accumulation_steps") or 1
    batch *= max(window.argument("logging_steps") or 1, 1)
    return _CHANCE / math.sqrt(max(batch * points, 1))


class PreferenceMargin(Rule):
    """The rejected completions gain on the chosen ones."""

    name = "preference_margin"
    title = "Negative preference margin"
    reads = units(reward_margin="implicit reward")
    trainers = ("DPO", "KTO", "OnlineDPO")
    warm_up = _RECENT + _BASELINE
    persistence = Persistence(5, 5)
    cooldown = 30
    meaning = "by its own likelihoods, the policy prefers what it is taught to avoid"
    advice = (
        "check that chosen and rejected are not swapped, that the reference is the model that training "
        "began with, and beta"
    )
    source = "Rafailov et al.: Direct preference optimization, 2023 (arXiv:2305.18290), equation 7"

    def judge(self, window: Window) -> Verdict:
        """The mean of the last ten margins is negative by more than two standard errors."""
        values = window.series("reward_margin").last(_RECENT)
        middle = mean(values)
        error = noise(values) / math.sqrt(len(values))
        told = f"the mean of the last {_RECENT} reward_margin is {middle:.3g}"
        evidence: Evidence = {"mean": middle, "standard_error": error}
        is_bad = middle < -_SIGMAS * error and middle < 0
        return firing("warning", told, **evidence) if is_bad else ok(told, **evidence)

    def weakness(self, window: Window) -> str:
        """Without a reference the margin is one of plain likelihoods."""
        if not window.argument("reference_free"):
            return ""
        return (
            "without a reference (reference_free) the margin does not begin at 0, for it weighs length, too"
        )


class LikelihoodDisplacement(Rule):
    """The margin grows while the chosen completions themselves become less likely.

    That is so in many runs that work; how much is too much, only samples tell.
    """

    name = "likelihood_displacement"
    title = "Likelihood displacement"
    reads = units(logp_chosen_seq_mean="nats/sequence", reward_margin="implicit reward")
    trainers = ("DPO",)
    warm_up = _RECENT + _BASELINE
    persistence = Persistence(5, 5)
    cooldown = 30
    meaning = "probability leaves both completions, for others that nobody has judged"
    advice = (
        "generate and read; raise beta, add an SFT term on the chosen ones (rpo_alpha or loss_type "
        "sft), filter pairs that are alike"
    )
    source = (
        "Razin et al.: Unintentional unalignment: likelihood displacement in DPO, 2024 (arXiv:2410.08847)"
    )

    def judge(self, window: Window) -> Verdict:
        """The chosen completions lost a tenth of their log-probability; half of it is a warning."""
        series, margins = window.series("logp_chosen_seq_mean"), window.series("reward_margin")
        now, before = median(series.last(_RECENT)), series.start(_BASELINE)
        up = median(margins.last(_RECENT)) - margins.start(_BASELINE)
        lost, rough = before - now, noise(series.last(_NOISY))
        told = (
            f"the chosen completions' log-probability fell from {before:.4g} to {now:.4g} "
            f"nats/sequence, while the margin changed by {up:+.3g}"
        )
        evidence: Evidence = {
            "recent_median": now,
            "start_median": before,
            "margin_change": up,
            "noise": rough,
        }
        if up <= 0 or lost < max(_A_LOT * abs(before), 2 * rough):
            return ok(told, **evidence)
        return firing("warning" if lost >= max(_MOST * abs(before), 3 * rough) else "info", told, **evidence)


class KTOEmptySide(Rule):
    """KTO sees completions of one kind alone."""

    name = "kto_empty_side"
    title = "One side of KTO is empty"
    looks_at = ("implicit_reward_chosen", "implicit_reward_rejected")
    trainers = ("KTO",)
    persistence = Persistence(_ROW, _ROW)
    cooldown = 30
    meaning = "without desirable or without undesirable examples KTO has nothing to tell apart"
    advice = (
        "check the labels, shuffle the data set, use a larger batch, and weigh the sides "
        "(desirable_weight, undesirable_weight)"
    )
    source = "Ethayarajh et al.: KTO, 2024 (arXiv:2402.01306), section 4.2"

    def cannot_apply(self, window: Window) -> str:
        """It needs at least one of the sides."""
        return "" if any(window.has_logged(name) for name in self.looks_at) else "no side was logged so far"

    def judge(self, window: Window) -> Verdict:
        """A side is missing in ten points in a row."""
        missing = [name for name in self.looks_at if name not in window.current]
        if not missing:
            return ok("both sides are there")
        if len(missing) == len(self.looks_at):
            return silent()
        side = "desirable" if "chosen" in missing[0] else "undesirable"
        return firing(
            "warning",
            f"the batches hold no {side} completion ({missing[0]} is not logged)",
            missing=missing[0],
        )
