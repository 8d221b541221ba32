"""Is the reward still worth following?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rldk.health.robust import median, noise
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, silent, unavailable, units

if TYPE_CHECKING:
    from rldk.health.window import Series, Window

_BASELINE: Final = 5
_RECENT: Final = 5
_NOISY: Final = 64
_SIGMAS: Final = 4.0
_HALF: Final = 0.5
_LEAST_SHARE: Final = 0.05
_HELD_OUT: Final = 6
_CONSTANT: Final = 10
_SAME: Final = 1e-9
_EXCESS: Final = 0.35
_SEEN: Final = 0.8


class MissingReward(Rule):
    """Completions were judged, and no reward is logged.

    What a reward function gives as None or NaN TRL leaves out; of a batch without any other, the mean is
    not there at all, while the share of groups without a difference is.
    """

    name = "reward_missing"
    title = "Rewards are missing"
    looks_at = ("reward_mean",)
    trainers = ("GRPO", "RLOO")
    persistence = Persistence(2, 3)
    cooldown = 30
    meaning = "the reward functions give None or NaN, so that nothing is learnt from the completions"
    advice = "call the reward function by hand on a few completions; let it give all of them a number"
    source = "https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function"

    def judge(self, window: Window) -> Verdict:
        """The log tells of groups, and not of their reward."""
        if "reward_mean" in window.current:
            return ok("reward_mean is there")
        if "reward_zero_std_frac" not in window.current:
            return silent()
        return firing("critical", "completions were judged, and reward_mean is not among what was logged")


class RewardCollapse(Rule):
    """The reward has lost most of what the run had gained, or has fallen below where it began."""

    name = "reward_collapse"
    title = "Reward collapse"
    reads = units(reward_mean="reward")
    trainers = ("PPO", "GRPO", "RLOO", "OnlineDPO")
    warm_up = _BASELINE + _RECENT
    persistence = Persistence(3, 3)
    meaning = "the policy earns much less than it did"
    advice = (
        "go on from the checkpoint at the best reward, with a lower learning rate or a stronger pull "
        "to the reference"
    )
    source = "robust comparison with the run's own best five points; the noise is that of neighbouring points"

    def judge(self, window: Window) -> Verdict:
        """Half of the gain lost, and four deviations of a point; critical where none of it is left."""
        series = window.series("reward_mean")
        start, now = series.start(_BASELINE), median(series.last(_RECENT))
        best = max(start, series.peak(_RECENT))
        rough, gain = noise(series.last(_NOISY)), best - start
        lost = best - now
        evidence: Evidence = {
            "recent_median": now,
            "best_median": best,
            "start_median": start,
            "noise": rough,
        }
        told = (
            f"the median of the last {_RECENT} reward_mean is {now:.3g}; the best was {best:.3g}, the "
            f"start {start:.3g}"
        )
        limit = max(_HALF * gain, _SIGMAS * rough, _LEAST_SHARE * abs(best))
        if lost < limit:
            return ok(told, limit=best - limit, **evidence)
        is_gone = gain > _SIGMAS * rough and now <= start
        return firing("critical" if is_gone else "warning", told, limit=best - limit, **evidence)


class RewardHacking(Rule):
    """An audit: the reward that is trained on rises, and the one that counts does not.

    The one that counts is the reward on held-out prompts, or else the reward less its KL penalty. It
    tells what has happened, never what will.
    """

    name = "reward_hacking"
    title = "Reward up, held-out or KL-adjusted reward not"
    looks_at = ("reward_mean", "reward_total_mean", "eval:reward_mean")
    trainers = ("PPO", "GRPO", "RLOO", "OnlineDPO")
    persistence = Persistence(3, 5)
    cooldown = 30
    meaning = "the policy learns what the reward pays for, and not what the reward stands for"
    advice = (
        "read samples of the highest rewards; audit the reward function for what it pays by mistake, "
        "raise beta, or stop earlier"
    )
    source = "Gao, Schulman, Hilton: Scaling laws for reward model overoptimization, 2022 (arXiv:2210.10760)"

    def cannot_apply(self, window: Window) -> str:
        """It needs a second reward to compare with."""
        if len(window.series("reward_mean", "eval")) >= _HELD_OUT or _is_adjusted(window):
            return ""
        has_eval = window.has_logged("reward_mean", "eval")
        few = f"there are fewer than {_HELD_OUT} evaluations" if has_eval else "no evaluation logs a reward"
        return f"{few}, and there is no reward less a KL penalty to compare with"

    def judge(self, window: Window) -> Verdict:
        """Compare the last third of what both logged with the first third, beyond their noise."""
        held_out = window.series("reward_mean", "eval")
        is_held_out = len(held_out) >= _HELD_OUT
        gold = held_out if is_held_out else window.series("reward_total_mean")
        name = "the held-out reward" if is_held_out else "the reward less its KL penalty"
        proxy = window.series("reward_mean")
        if min(len(gold), len(proxy)) < _HELD_OUT:
            return unavailable(f"reward_mean has {len(proxy)} finite points, and the rule needs {_HELD_OUT}")
        up, rough = _change(proxy), _noise_of_thirds(proxy)
        other, other_rough = _change(gold), _noise_of_thirds(gold)
        evidence: Evidence = {
            "reward_change": up,
            "reward_noise": rough,
            "compared_change": other,
            "compared_noise": other_rough,
        }
        told = (
            f"reward_mean changed by {up:+.3g}, {name} by {other:+.3g}, from the first third of the run "
            "to the last"
        )
        is_bad = up > 2 * rough and up > 0 and other < -2 * other_rough
        return firing("warning", told, **evidence) if is_bad else ok(told, **evidence)


def _is_adjusted(window: Window) -> bool:
    return (
        len(window.series("reward_total_mean")) >= _HELD_OUT and window.trainer == "PPO"
    )  # which trains on it


def _thirds(series: Series) -> tuple[list[float], list[float]]:
    values = series.last(512)
    third = len(values) // 3
    return values[:third], values[-third:]


def _change(series: Series) -> float:
    first, last = _thirds(series)
    return median(last) - median(first)


def _noise_of_thirds(series: Series) -> float:
    """Standard error of the difference of the medians of two thirds (1.25 times that of means)."""
    values = series.last(512)
    return 1.2533 * noise(values) * math.sqrt(2 / (len(values) // 3))


class ConstantReward(Rule):
    """Every completion has had the same reward since the run began."""

    name = "constant_reward"
    title = "Constant reward"
    reads = units(reward_std="reward", reward_zero_std_frac="fraction")
    trainers = ("GRPO", "RLOO")
    warm_up = _CONSTANT
    cooldown = 50
    meaning = "rewards that do not differ have no advantage, and teach nothing"
    advice = (
        "call the reward function by hand on a few completions: a parser that never matches gives "
        "every one the same reward"
    )
    source = "Shao et al.: DeepSeekMath, 2024 (arXiv:2402.03300), equation of the group-relative advantage"

    def judge(self, window: Window) -> Verdict:
        """No spread and no group with one, in ten points or more from the first on."""
        stds, shares = window.series("reward_std"), window.series("reward_zero_std_frac")
        if abs(stds.latest) > _SAME or not _never_differed(stds, shares):
            return ok(f"reward_std is {stds.latest:.3g}")
        told = f"reward_std has been 0 in all {len(stds)} points"
        return firing("warning", told, points=len(stds))


def _never_differed(stds: Series, shares: Series) -> bool:
    is_same = all(abs(value) <= _SAME for value in (*stds.first(64), *stds.last(64)))
    return is_same and all(value == 1 for value in shares.first(64))


class ZeroVarianceGroups(Rule):
    """More groups than chance makes have one reward alone.

    Of G completions that each succeed with probability p, all do or none does with p^G + (1-p)^G. That
    many groups without a difference are no fault; what is beyond is.
    """

    name = "zero_variance_groups"
    title = "Zero-variance groups"
    reads = units(reward_zero_std_frac="fraction", reward_mean="reward")
    trainers = ("GRPO", "RLOO")
    warm_up = _RECENT
    persistence = Persistence(3, 5)
    meaning = "many prompts teach nothing, for all their completions get the same reward"
    advice = (
        "drop prompts that are always or never solved, sample more per prompt (num_generations) or "
        "hotter; check the reward's resolution"
    )
    source = (
        "Yu et al.: DAPO, 2025 (arXiv:2503.14476), section 3.2; the share by chance is that of a binomial"
    )

    def cannot_apply(self, window: Window) -> str:
        """It needs the size of the groups, and a reward that is a share of success."""
        if not window.argument("num_generations"):
            return "the run does not tell num_generations, the size of a group"
        values = window.series("reward_mean").last(64)
        if any(not 0 <= value <= 1 for value in values):
            return "reward_mean leaves 0 to 1, so that it is no share of success"
        return ""

    def weakness(self, window: Window) -> str:
        """In small groups chance alone leaves so many without a difference that few excesses are possible."""
        size = window.argument("num_generations") or 1
        rates = (percent / 100 for percent in range(50, 100))
        most = next((rate for rate in rates if 1 - _by_chance(rate, size) < _EXCESS), 1.0)
        if most > _SEEN:
            return ""
        return (
            f"in groups of {size:.0f} (num_generations) chance alone leaves {_by_chance(0.5, size):.0%} or "
            f"more without a difference: it fires only while success is between {1 - most:.0%} and {most:.0%}"
        )

    def judge(self, window: Window) -> Verdict:
        """The median excess of the last 5 points is 0.35 of all groups."""
        size = window.argument("num_generations") or 1
        shares = window.series("reward_zero_std_frac").last(_RECENT)
        rates = window.series("reward_mean").last(_RECENT)
        expected = [_by_chance(rate, size) for rate in rates]
        excess = median([share - chance for share, chance in zip(shares, expected, strict=False)])
        evidence: Evidence = {
            "excess": excess,
            "share": median(shares),
            "expected": median(expected),
            "group_size": size,
            "limit": _EXCESS,
        }
        told = (
            f"{median(shares):.0%} of the groups have one reward alone, {excess:+.0%} beyond what success in "
            f"{median(rates):.0%} of the completions makes by chance"
        )
        return firing("warning", told, **evidence) if excess >= _EXCESS else ok(told, **evidence)


def _by_chance(rate: float, size: float) -> float:
    """The share of groups that have one reward alone, where each completion succeeds at this rate."""
    return float(rate**size + (1 - rate) ** size)
