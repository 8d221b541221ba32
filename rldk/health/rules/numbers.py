"""Are the numbers still numbers?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rldk.event import as_float
from rldk.health.rule import Persistence, Rule, Severity, Verdict, firing, ok, silent
from rldk.health.window import is_broken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rldk.health.window import Window

_ON_FP16: Final = 3
_OPTIMISED: Final = frozenset({"loss", "grad_norm", "policy_loss", "value_loss", "entropy_mean", "lr"})
_HIDDEN_BY: Final = ("grad_norm", "entropy_mean")
_NAMES_TOLD: Final = 8
_HIDDEN: Final = "Loss of 0.0 hides a divergence: transformers replaces NaN (logging_nan_inf_filter)"


class NonFinite(Rule):
    """NaN or an infinity among the metrics.

    An infinite gradient norm alone is what mixed precision with fp16 shows when it lowers its loss
    scale, and skips the step; there it takes three points in a row.
    """

    optimised = _OPTIMISED
    name = "nonfinite"
    title = "Non-finite values"
    persistence = Persistence(1, 1)
    cooldown = 50
    meaning = "NaN or an infinity in what the trainer logs: once it is in the loss, each step spreads it"
    advice = (
        "stop, and go on from the last checkpoint before the first bad step; look at that step's batch and "
        "rewards, lower the learning rate or clip the gradient, and prefer bf16 to fp16"
    )
    source = "https://docs.nvidia.com/deeplearning/performance/mixed-precision-training/index.html"

    def judge(self, window: Window) -> Verdict:
        """Critical where the optimizer's own numbers are broken, else a warning."""
        if not window.current:
            return silent()
        if _is_finite_sum(window.current.values()):
            return ok()
        broken = sorted(name for name, value in window.current.items() if is_broken(value))
        if "ratio_var" in broken and _has_one_micro_batch(window):
            broken.remove("ratio_var")  # NaN by right
        if not broken:
            return ok()
        if broken == ["grad_norm"] and window.argument("fp16"):
            return ok("fp16 lowers its loss scale")  # `OverflowedGradient` judges whether that ends
        told = ", ".join(f"{name} is {as_float(window.current[name])}" for name in broken[:_NAMES_TOLD])
        more = f" and {len(broken) - _NAMES_TOLD} more" if len(broken) > _NAMES_TOLD else ""
        hides = window.current.get("loss") == 0 and not set(_HIDDEN_BY).isdisjoint(broken)
        hidden = f"; {_HIDDEN}" if hides else ""
        severity: Severity = "warning" if self.optimised.isdisjoint(broken) else "critical"
        return firing(severity, f"{told}{more}{hidden}", **{name: window.current[name] for name in broken})

    def notes(self, verdict: Verdict) -> list[str]:
        """Name what is broken, at each event that holds it."""
        if verdict.state != "firing":
            return []
        hidden = [_HIDDEN] if _HIDDEN in verdict.reason else []
        return [f"Non-finite values detected: {', '.join(verdict.evidence)}", *hidden]


class NonFiniteEvaluation(NonFinite):
    """The same of an evaluation: no step was trained on it."""

    optimised = frozenset[str]()
    name = "nonfinite_eval"
    title = "Non-finite values in evaluation"
    part = "eval"
    meaning = "NaN or an infinity in what an evaluation logs"
    advice = "look whether training logs any; if not, at the evaluation's data and precision"


class OverflowedGradient(Rule):
    """A gradient norm that stays infinite under fp16: the loss scale finds no bottom."""

    name = "fp16_overflow"
    title = "Gradients overflow fp16"
    persistence = Persistence(_ON_FP16, _ON_FP16)
    meaning = "fp16 skips a step whose gradient overflows; when each one does, nothing is trained"
    advice = "use bf16, or lower the learning rate; a NaN in the weights looks the same: check the checkpoint"
    source = "https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling"

    def cannot_apply(self, window: Window) -> str:
        """It is about fp16."""
        return "" if window.argument("fp16") else "fp16 is not on"

    def judge(self, window: Window) -> Verdict:
        """Judge the newest gradient norm."""
        norm = window.current.get("grad_norm")
        if norm is None:
            return silent()
        if not is_broken(norm):
            return ok(f"grad_norm is {norm:.3g}")
        return firing("critical", f"the gradient norm is {norm} step after step", grad_norm=norm)


def _has_one_micro_batch(window: Window) -> bool:
    counts = ("num_ppo_epochs", "num_mini_batches", "gradient_accumulation_steps")
    return all((window.argument(name) or 1) == 1 for name in counts)


def _is_finite_sum(values: Iterable[float]) -> bool:
    """Whether all are finite, for sure: a sum that is finite has no part that is not."""
    try:
        total = sum(values)
    except OverflowError:  # an integer beyond the floats
        return False
    return total - total == 0
