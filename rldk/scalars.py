"""Which plain numbers does a log hold? Pure, and light enough for `import rldk`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_BITS: Final = 8192  # Python refuses to write integers of more than 4300 digits
_DEEPEST: Final = 8  # a log may be nested, and may even hold itself


class Scalars(NamedTuple):
    """The numbers of one log, in its order.

    Attributes:
        names: Their keys; where the log is nested, with `/` in between.
        numbers: The numbers.
        notes: What was left out because it is no number, a sentence each.
    """

    names: tuple[str, ...]
    numbers: tuple[int | float, ...]
    notes: list[str]


def read(logs: Mapping[str, Any]) -> Scalars:
    """Give the numbers that a log holds; None means that nothing was measured, and is left out.

    Args:
        logs: Names to numbers, numpy scalars, one-element tensors, or to further logs.
    """
    if set(map(type, logs.values())) == {float} and set(map(type, logs)) == {str} and "" not in logs:
        return Scalars(tuple(logs), tuple(logs.values()), [])  # nearly every log
    told = [(raw, value, number(value)) for raw, value in _flat(logs)]
    notes = [
        f"{raw} is no number but {type(value).__name__}, and was left out"
        for raw, value, found in told
        if found is None and value is not None
    ]
    held = [(raw, found) for raw, _, found in told if found is not None]
    return Scalars(tuple(raw for raw, _ in held), tuple(found for _, found in held), notes)


def number(value: object) -> int | float | None:
    """Read a plain number; None for anything else."""
    if type(value) is float:  # nearly all are, and the checks below are slow
        return value
    if isinstance(value, Integral):
        whole = int(value)
        return whole if whole.bit_length() <= _LONGEST_BITS else math.copysign(math.inf, whole > 0 or -1)
    if isinstance(value, Real):
        return _float(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", None) is not None and _has_one_element(value):
        try:
            scalar = item()
        except (RuntimeError, ValueError, TypeError):  # a tensor without data
            return None
        return number(scalar) if isinstance(scalar, Real) else None
    return None


def _float(value: Any) -> float | None:  # noqa: ANN401  # numbers.Real, which mypy cannot compare
    try:
        return float(value)
    except OverflowError:  # a fraction, say, of more than 1e308
        return math.inf if value > 0 else -math.inf
    except (ValueError, TypeError, ArithmeticError):  # no number after all
        return None


def _flat(logs: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in tuple(logs.items()):  # another thread may change the log meanwhile
        name = f"{prefix}{key}" or "unnamed"
        if type(value) is not float and isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _flat(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _has_one_element(array: Any) -> bool:  # noqa: ANN401  # a numpy array or a torch tensor, neither imported
    count = array.numel() if hasattr(array, "numel") else array.size
    return bool(count == 1)
