"""Which of the user's own limits does a log exceed? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Limit(NamedTuple):
    """A limit that users can set: the metrics that it bounds from above, and what is said beyond it."""

    metrics: tuple[str, ...]
    sentence: str


LIMITS: Final[dict[str, Limit]] = {
    "kl_divergence": Limit(("kl_mean", "kl_seq_mean"), "High KL divergence detected"),
    "clip_fraction": Limit(("clip_frac",), "High clipping fraction detected"),
    "gradient_norm": Limit(("grad_norm",), "Large gradient norm detected"),
    "reward_std": Limit(("reward_std",), "High reward standard deviation detected"),
}


def checked(thresholds: Mapping[str, float] | None) -> dict[str, float]:
    """Make sure that each threshold is one that RLDK knows, and a number.

    Raises:
        SettingError: A name is unknown or its value is no number.
    """
    for name, value in (thresholds or {}).items():
        if name not in LIMITS:
            raise SettingError("alert_thresholds", name, f"one of {', '.join(LIMITS)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
            raise SettingError(f"alert_thresholds[{name!r}]", value, "a number")
    return dict(thresholds or {})


def notes(metrics: Mapping[str, float], thresholds: Mapping[str, float]) -> list[str]:
    """Say which limits these metrics exceed; one that was not measured exceeds none.

    `kl_divergence` bounds the KL that the trainer logs, per token or, as PPO's, per sequence.
    """
    return [
        LIMITS[name].sentence
        for name, limit in thresholds.items()
        if any(metrics.get(metric, limit) > limit for metric in LIMITS[name].metrics)
    ]
