"""Which numbers of a log are no numbers any more? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def notes(metrics: Mapping[str, float]) -> list[str]:
    """Name the metrics that are NaN or infinite, and a loss that only seems to be fine."""
    if _is_finite_sum(metrics.values()):
        return []
    # Nothing but NaN and the infinities differs from itself by other than 0; isfinite refuses huge integers
    broken = sorted([name for name, value in metrics.items() if value - value != 0])
    if not broken:
        return []
    found = [f"Non-finite values detected: {', '.join(broken)}"]
    if metrics.get("loss") == 0 and {"grad_norm", "entropy_mean"} & set(broken):
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py
        found.append("Loss of 0.0 hides a divergence: transformers replaces NaN (logging_nan_inf_filter)")
    return found


def _is_finite_sum(values: Iterable[float]) -> bool:
    """Whether all are finite, for sure: a sum that is finite has no part that is not."""
    try:
        total = sum(values)
    except OverflowError:  # an integer beyond the floats
        return False
    return total - total == 0
