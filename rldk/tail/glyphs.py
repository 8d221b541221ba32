"""How are numbers, lines and names put into the cells of a terminal? Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rldk.event import non_finite_name
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rldk.tail.trace import Point

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_BLOCKS: Final = ".:-=+*#@"
BROKEN: Final = "!"
"""The block of what is not finite."""
_ROUNDING: Final = 1e-12
_UNSEEN: Final = "\N{REPLACEMENT CHARACTER}"


def clean(text: str, *, is_plain: bool = False) -> str:
    """Give a text as a terminal may have it: without control characters, on one line, without secrets."""
    shown = "".join(c if c.isprintable() else _UNSEEN for c in redact_text(text))
    return shown.encode("ascii", "replace").decode() if is_plain else shown


def number(value: float) -> str:
    """Write a number in at most ten letters."""
    if not math.isfinite(value):
        return non_finite_name(value).replace("Infinity", "inf")
    if value == 0 or 1e-3 <= abs(value) < 1e6:  # noqa: PLR2004  # beyond, an exponent is shorter
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"  # noqa: PLR2004  # five digits and more
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def signed(value: float) -> str:
    """Write a change, with its sign; nothing of one that is not finite."""
    if not math.isfinite(value):
        return ""
    return f"+{number(value)}" if value > 0 else number(value)


def sparkline(points: Sequence[Point], first: int, last: int, width: int, *, is_plain: bool = False) -> str:
    """Draw a metric over the steps as a row of blocks, from its least to its greatest value.

    What is not finite stands out. A step without a point shows the value before it.

    Args:
        points: The points, by growing steps.
        first: The step at the left end.
        last: The step at the right end.
        width: How many cells there are.
        is_plain: Whether the terminal knows no more than ASCII.
    """
    blocks = _PLAIN_BLOCKS if is_plain else _BLOCKS
    columns = _columns(points, first, last, min(width, last - first + 1))
    finite = [value for value in columns if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = high / 2 - low / 2  # halves, so that no difference is beyond the floats
    span = span if span > _ROUNDING * max(abs(low), abs(high)) else 0.0

    def block(value: float | None) -> str:
        if value is None:
            return " "
        return blocks[_level(value / 2 - low / 2, span, len(blocks))] if math.isfinite(value) else BROKEN

    return "".join(map(block, columns))


def _columns(points: Sequence[Point], first: int, last: int, width: int) -> list[float | None]:
    parts: list[list[float]] = [[] for _ in range(max(width, 0))]
    for point in points:
        if parts and first <= point.step <= last:
            parts[min((point.step - first) * width // (last - first + 1), width - 1)].append(point.value)
    columns: list[float | None] = []
    for part in parts:
        columns.append(_mean(part) if part else columns[-1] if columns else None)
    return columns


def _mean(part: Sequence[float]) -> float:
    """The mean; NaN where any is not finite, for that is what must be seen."""
    if not all(map(math.isfinite, part)):
        return math.nan
    return sum(value / len(part) for value in part)


def _level(above: float, span: float, levels: int) -> int:
    if span <= 0:
        return levels // 2 - 1
    return min(int(above / span * levels), levels - 1)
