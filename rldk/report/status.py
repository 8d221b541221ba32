"""Where does a run stand? One line for the log. Pure, and cheap to import."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rldk import catalog
from rldk.event import as_float, non_finite_name
from rldk.report.panels import PANELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MOST_METRICS: Final = 5
_USUAL: Final = ("reward_mean", "loss", "kl_mean", "grad_norm", "entropy_mean", "pref_accuracy")
_TOLD: Final = {
    "GRPO": ("reward_mean", "kl_mean", "entropy_mean", "grad_norm", "completion_len_mean", "loss"),
    "RLOO": ("reward_mean", "kl_mean", "entropy_mean", "grad_norm", "completion_len_mean", "loss"),
    "PPO": ("reward_mean", "kl_seq_mean", "entropy_mean", "value_loss", "policy_loss"),
    "DPO": ("loss", "pref_accuracy", "reward_margin", "grad_norm"),
    "KTO": ("loss", "reward_margin", "kl_reference_point", "grad_norm"),
    "OnlineDPO": ("loss", "reward_mean", "pref_accuracy", "kl_seq_mean", "grad_norm"),
    "Reward": ("loss", "pref_accuracy", "score_margin", "grad_norm"),
    "SFT": ("loss", "token_accuracy", "entropy_mean", "grad_norm"),
}
_PLAIN_UNITS: Final = frozenset({"", "1", "fraction", "reward", "implicit reward"})
_SECONDS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def line(
    step: int,
    metrics: Mapping[str, float],
    *,
    trainer: str = "",
    total: int | None = None,
    since_step: int = 0,
    elapsed_s: float | None = None,
    firing: Iterable[str] = (),
) -> str:
    """Say where a run stands: `step 120 of 1,000 (12 %), 41 min left; reward_mean 0.62, ...; kl_drift fires`.

    Args:
        step: Optimizer steps done.
        metrics: The newest log, by canonical name.
        trainer: Short name of the trainer, such as `GRPO`.
        total: Steps until the end; None where nobody knows.
        since_step: The step at which this process began to train.
        elapsed_s: Seconds since then.
        firing: Names of the rules that fire, the worst first.
    """
    where = f"step {step:,}"
    if total is not None and total > 0:
        where += f" of {total:,} ({100 * min(step / total, 1):.0f} %)"
        left = _left_s(step, total, since_step, elapsed_s)
        where += f", {span(left)} left" if left is not None else ""
    names = _chosen(metrics, trainer)
    told = ", ".join(f"{name} {_number(metrics[name])}{_unit(name)}" for name in names)
    rules = ", ".join(firing)
    return "; ".join(filter(None, (where, told, f"firing: {rules}" if rules else "")))


def _left_s(step: int, total: int, since_step: int, elapsed_s: float | None) -> float | None:
    done = step - since_step
    if elapsed_s is None or done <= 0 or step >= total:
        return None
    return elapsed_s / done * (total - step)


def _chosen(metrics: Mapping[str, float], trainer: str) -> list[str]:
    """The metrics that tell most; what is not finite comes first, whatever it is."""
    wanted = dict.fromkeys(
        (*_TOLD.get(trainer, _USUAL), *(name for p in PANELS.get(trainer, ()) for name in p))
    )
    there = [name for name in wanted if name in metrics]
    broken = [name for name, value in metrics.items() if not math.isfinite(as_float(value))]
    return list(dict.fromkeys((*broken[:_MOST_METRICS], *(there or metrics))))[:_MOST_METRICS]


def _number(value: float) -> str:
    value = as_float(value)
    if not math.isfinite(value):
        return non_finite_name(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:  # noqa: PLR2004  # beyond, an exponent is shorter
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004  # three digits
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _unit(name: str) -> str:
    metric = catalog.named(name)
    return "" if metric is None or metric.unit in _PLAIN_UNITS else f" {metric.unit}"


def span(seconds: float) -> str:
    """Write a time span in its two greatest units: `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    if not math.isfinite(seconds):
        return "no end"
    left = max(round(seconds), 0)
    parts: list[tuple[int, str]] = []
    for name, size in _SECONDS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, name))
    shown = parts[:2] or [(0, "s")]
    return " ".join(f"{count:,} {name}" for count, name in shown if count) or "0 s"
