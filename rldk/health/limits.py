"""The limits that users set themselves: exact, whatever the run's own baseline is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.errors import SettingError
from rldk.event import as_float
from rldk.health.robust import median
from rldk.health.rule import Rule, Verdict, firing, ok, silent, unavailable
from rldk.health.rules.memory import HOST, devices
from rldk.health.window import is_broken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.health.window import Window

_BEFORE: Final = 20
_LEAST: Final = 5


class Limit(Rule):
    """Says where a metric is above what its user allows.

    Every event at which it is gets the limit's sentence as a note; the alert comes with the first.

    Args:
        limit: What is allowed.
    """

    measures: tuple[str, ...]
    sentence: str
    advice = "it is your own limit (alert_thresholds): see whether it fits this run"
    source = "alert_thresholds"

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.looks_at = self.measures

    def cannot_apply(self, window: Window) -> str:
        """It needs one of its metrics."""
        if any(window.has_logged(name, self.part) for name in self.measures):
            return ""
        return f"{' or '.join(self.measures)} was not logged"

    def judge(self, window: Window) -> Verdict:
        """Compare each of its metrics with the limit."""
        return self._judged({name: window.current[name] for name in self.measures if name in window.current})

    def notes(self, verdict: Verdict) -> list[str]:
        """The sentence, at each event that is beyond the limit."""
        return [self.sentence] if verdict.state == "firing" else []

    def _judged(self, measured: Mapping[str, float]) -> Verdict:
        numbers = {name: value for name, value in measured.items() if value == value}  # noqa: PLR0124  # no NaN
        if measured and not numbers:
            return unavailable(f"{' and '.join(measured)} is NaN")
        over = {name: as_float(value) for name, value in numbers.items() if value > self.limit}
        return self._compared(over, self.limit) if measured else silent()

    def _compared(self, over: Mapping[str, float], limit: float) -> Verdict:
        if not over:
            return ok(f"not above {limit:g}")
        told = ", ".join(f"{name} is {value:.4g}" for name, value in over.items())
        return firing("warning", f"{told}, above your limit of {limit:.4g}", **over, limit=limit)


class KLDivergence(Limit):
    """The KL that the trainer logs, per token or, as PPO's, per sequence."""

    name = "limit_kl_divergence"
    title = "High KL divergence"
    measures = ("kl_mean", "kl_seq_mean")
    sentence = "High KL divergence detected"


class ClipFraction(Limit):
    """The share of clipped importance ratios."""

    name = "limit_clip_fraction"
    title = "High clipping fraction"
    measures = ("clip_frac",)
    sentence = "High clipping fraction detected"


class GradientNorm(Limit):
    """The gradient norm before clipping."""

    name = "limit_gradient_norm"
    title = "Large gradient norm"
    measures = ("grad_norm",)
    sentence = "Large gradient norm detected"


class RewardStd(Limit):
    """The spread of the rewards."""

    name = "limit_reward_std"
    title = "High reward standard deviation"
    measures = ("reward_std",)
    sentence = "High reward standard deviation detected"


class LossSpike(Limit):
    """The loss, as a multiple of the median of up to 20 points before: 2 allows it to double.

    The rise is counted from the median, by its size: of a loss of -0.5, 2 allows a rise to 0. As long
    as there are fewer than 5 points before, nothing is said.
    """

    name = "limit_loss_spike"
    title = "Loss spike"
    measures = ("loss",)
    sentence = "Loss spike detected"

    def judge(self, window: Window) -> Verdict:
        """Compare the newest loss with the median of those before."""
        if "loss" not in window.current:
            return silent()
        is_kept = not is_broken(window.current["loss"])  # a series holds what is finite
        before = window.series("loss").before_last(int(is_kept), _BEFORE)
        if len(before) < _LEAST:
            return unavailable(f"loss has {len(before)} finite points before, and the limit needs {_LEAST}")
        usual = median(before)
        allowed = usual + (self.limit - 1) * abs(usual)
        now = as_float(window.current["loss"])
        return self._compared({"loss": now} if now > allowed else {}, allowed)


class MemoryUsage(Limit):
    """The fraction of its memory that a device uses, or, where there is none, the host."""

    name = "limit_memory_usage"
    title = "High memory usage"
    part = "resource"
    measures = (HOST,)
    sentence = "High memory usage detected"

    def cannot_apply(self, window: Window) -> str:
        """It needs a device's memory, or the host's."""
        is_known = devices(window) or window.has_logged(HOST, self.part)
        return "" if is_known else "no sample tells of memory"

    def judge(self, window: Window) -> Verdict:
        """Compare each device that the process sees with the limit."""
        names = devices(window) or [HOST]
        return self._judged({name: window.current[name] for name in names if name in window.current})


class _Allowed(NamedTuple):
    """Which values of a limit make sense: those from the least to the most."""

    least: float
    most: float
    words: str


_LIMITS: Final[dict[str, type[Limit]]] = {
    kind.name.removeprefix("limit_"): kind
    for kind in (KLDivergence, ClipFraction, GradientNorm, RewardStd, LossSpike, MemoryUsage)
}
LIMITS: Final = tuple(_LIMITS)
"""The names that `alert_thresholds` knows."""

_ANY: Final = _Allowed(-float("inf"), float("inf"), "a number")
_ALLOWED: Final = {
    "loss_spike": _Allowed(1.0, float("inf"), "a multiple of the usual loss, at least 1"),
    "memory_usage": _Allowed(0.0, 1.0, "a fraction of the memory, 0 to 1"),
}


def limits(thresholds: Mapping[str, float] | None) -> list[Limit]:
    """Make a rule of each limit.

    Args:
        thresholds: Limit by name: `kl_divergence`, `clip_fraction`, `gradient_norm` and `reward_std` in
            the unit of what they bound, `loss_spike` as a multiple, `memory_usage` as a fraction.

    Raises:
        SettingError: A name is unknown, or its value cannot be a limit.
    """
    unknown = next((name for name in thresholds or {} if name not in _LIMITS), None)
    if unknown is not None:
        raise SettingError("alert_thresholds", unknown, f"one of {', '.join(LIMITS)}")
    return [_LIMITS[name](_checked(name, value)) for name, value in (thresholds or {}).items()]


def _checked(name: str, value: float) -> float:
    allowed = _ALLOWED.get(name, _ANY)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not allowed.least <= value <= allowed.most:  # which NaN is not either
        raise SettingError(f"alert_thresholds[{name!r}]", value, allowed.words)
    return as_float(value)
