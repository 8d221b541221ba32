"""How long are the completions, and does the reward pay for that?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.health.robust import correlation, median, noise, steps_between
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Window

_BASELINE: Final = 5
_RECENT: Final = 5
_LONG: Final = 20
_NOISY: Final = 64
_ALL: Final = 0.95
_POINTS: Final = 10
_CREEP: Final = 1.5
_GROWN: Final = 1.25
_PAID: Final = 0.9
_SIGMAS: Final = 2.0


class TruncatedCompletions(Rule):
    """Nearly every completion runs into the length limit."""

    name = "truncated_completions"
    title = "Truncated completions"
    reads = units(completion_truncated_frac="fraction")
    trainers = ("GRPO", "RLOO")
    warm_up = _POINTS
    persistence = Persistence(5, 5)
    cooldown = 30
    meaning = "completions are cut before they end: the reward judges fragments, and the end is never learnt"
    advice = (
        "raise max_completion_length, or check that the model can end: the chat template, eos_token_id and "
        "what the reward says of unfinished text; mask_truncated_completions leaves them out of the loss"
    )
    source = "Yu et al.: DAPO, 2025 (arXiv:2503.14476), section 3.4 (overlong reward shaping)"

    def judge(self, window: Window) -> Verdict:
        """The median of the last ten points is 95 % or more."""
        share = median(window.series("completion_truncated_frac").last(_POINTS))
        told = (
            f"the median of the last {_POINTS} points is {share:.0%} of completions cut at the length limit"
        )
        return firing("warning", told, share=share, limit=_ALL) if share >= _ALL else ok(told, share=share)


class LengthCreep(Rule):
    """Completions grow, and the reward does not."""

    name = "length_creep"
    title = "Length creep"
    reads = units(completion_len_mean="tokens", reward_mean="reward")
    trainers = ("GRPO", "RLOO")
    warm_up = _BASELINE + _RECENT + _RECENT
    persistence = Persistence(3, 5)
    cooldown = 30
    meaning = "the policy writes more and more for the same reward"
    advice = (
        "use a loss that does not favour long completions (loss_type dr_grpo or dapo), or a length "
        "penalty; read the longest samples"
    )
    source = "Liu et al.: Understanding R1-Zero-like training, 2025 (arXiv:2503.20783), section 3.1"

    def judge(self, window: Window) -> Verdict:
        """Half as long again as in the first 5 points, and the reward no more than its noise above them."""
        lengths, rewards = window.series("completion_len_mean"), window.series("reward_mean")
        now, before = median(lengths.last(_RECENT)), lengths.start(_BASELINE)
        gain = median(rewards.last(_RECENT)) - rewards.start(_BASELINE)
        rough = noise(rewards.last(_NOISY))
        evidence: Evidence = {
            "recent_length": now,
            "start_length": before,
            "reward_gain": gain,
            "reward_noise": rough,
        }
        told = (
            f"completions have {now:.4g} tokens, {before:.4g} at the start; the reward changed by {gain:+.3g}"
        )
        is_bad = before > 0 and now >= _CREEP * before and gain <= rough
        return firing("warning", told, **evidence) if is_bad else ok(told, **evidence)


class LengthReward(Rule):
    """The reward goes up and down with the length of the completions, and they grow."""

    name = "length_reward"
    title = "The reward pays for length"
    reads = units(completion_len_mean="tokens", reward_mean="reward")
    trainers = ("GRPO", "RLOO")
    warm_up = _LONG
    persistence = Persistence(3, 5)
    cooldown = 30
    meaning = "from log to log, the reward changes as the length does: length may be all that is learnt"
    advice = (
        "read the longest samples; control the reward for length, or penalise length beyond what the "
        "task needs"
    )
    source = (
        "Singhal et al.: A long way to go: investigating length correlations in RLHF, 2023 (arXiv:2310.03716)"
    )

    def judge(self, window: Window) -> Verdict:
        """The changes of 20 points correlate with 0.9 or more, and completions are a quarter longer."""
        lengths, rewards = window.series("completion_len_mean"), window.series("reward_mean")
        now, before = median(lengths.last(_RECENT)), lengths.start(_BASELINE)
        if now < _GROWN * before:
            return ok(f"completions have {now:.4g} tokens, {before:.4g} at the start")
        together = correlation(steps_between(lengths.last(_LONG)), steps_between(rewards.last(_LONG)))
        evidence: Evidence = {
            "correlation": together,
            "recent_length": now,
            "start_length": before,
            "limit": _PAID,
        }
        told = (
            f"the changes of reward and length correlate with {together:.2f}; completions have "
            f"{now:.4g} tokens, {before:.4g} at the start"
        )
        is_bad = together >= _PAID
        return firing("warning", told, **evidence) if is_bad else ok(told, **evidence)
