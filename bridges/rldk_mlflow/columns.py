"""How is the history of one metric held: in columns, whatever its store mixes into them."""

from __future__ import annotations

import math
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Real = NDArray[np.float64]
    _Picked = tuple[array[int], array[int], array[float], bytearray]

_INT64: Final = range(-(2**63), 2**63)
_NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Columns(NamedTuple):
    """A history of 24 bytes a point, in the order of its time and then its step.

    Attributes:
        timestamps: Milliseconds since the epoch.
        steps: Optimizer steps, as they were logged.
        values: The numbers.
        infinities: How many of them are infinite because the store holds the largest float.
        fractions: How many points had a fraction of a step, which is cut off.
        skipped: How many points hold something else than numbers, and are left out.
    """

    timestamps: Whole
    steps: Whole
    values: Real
    infinities: int = 0
    fractions: int = 0
    skipped: int = 0


class Gathering:
    """Points as they come from a store, which become columns."""

    def __init__(self) -> None:
        self._timestamps, self._steps, self._values = array("q"), array("q"), array("d")
        self._is_nan = bytearray()
        self._fractions = self._skipped = 0

    def add(
        self,
        timestamps: Sequence[Any],
        steps: Sequence[Any],
        values: Sequence[Any],
        is_nan: Sequence[Any] | None = None,
    ) -> None:
        """Take over some points.

        Args:
            timestamps: Milliseconds since the epoch.
            steps: Their steps.
            values: Numbers, or the names that JSON has for those that are not finite.
            is_nan: Which of the values stand for NaN; None for none of them.
        """
        flags = bytes(len(values)) if is_nan is None else is_nan
        columns: _Picked
        try:
            columns = array("q", timestamps), array("q", steps), array("d", values), bytearray(flags)
        except (TypeError, ValueError, OverflowError):  # SQLite takes anything in any column
            columns = self._picked(zip(timestamps, steps, values, flags, strict=True))
        self._timestamps += columns[0]
        self._steps += columns[1]
        self._values += columns[2]
        self._is_nan += columns[3]

    def _picked(self, rows: Iterable[tuple[Any, ...]]) -> _Picked:
        timestamps, steps, values, flags = array("q"), array("q"), array("d"), bytearray()
        for timestamp, step, value, is_nan in rows:
            when, where, number = _whole(timestamp), _whole(step), 0.0 if is_nan else _real(value)
            if when is None or where is None or number is None:
                self._skipped += 1
                continue
            self._fractions += where != step
            timestamps.append(when)
            steps.append(where)
            values.append(number)
            flags.append(bool(is_nan))
        return timestamps, steps, values, flags

    def columns(self, *, by_value: bool = False) -> Columns:
        """Give all points in order.

        Args:
            by_value: Whether points of one time and step go by their value, as databases are asked for
                them, or stay as they came.
        """
        timestamps, steps = np.array(self._timestamps, np.int64), np.array(self._steps, np.int64)
        values, is_nan = np.array(self._values, np.float64), np.frombuffer(self._is_nan, np.bool_)
        if not _is_ordered(timestamps, steps):
            keys = (is_nan, values, steps, timestamps) if by_value else (steps, timestamps)
            order = np.lexsort(keys)
            timestamps, steps = timestamps[order], steps[order]
            values, is_nan = values[order], is_nan[order]
        values[is_nan] = np.nan
        # Databases hold an infinity as the largest float:
        # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/sqlalchemy_store.py#L1370
        is_most = np.abs(values) == sys.float_info.max
        values[is_most] = np.copysign(np.inf, values[is_most])
        return Columns(timestamps, steps, values, int(is_most.sum()), self._fractions, self._skipped)


def of_points(points: Iterable[Any]) -> Columns:
    """Take over points as MLflow's client gives them."""
    gathering = Gathering()
    rows = [(point.timestamp, point.step, point.value) for point in points]
    gathering.add(*(zip(*rows, strict=True) if rows else ((), (), ())))
    return gathering.columns()


def _is_ordered(timestamps: Whole, steps: Whole) -> bool:
    """Whether each point is later than the one before it, or at a higher step."""
    earlier, later = timestamps[:-1], timestamps[1:]
    return bool(((earlier < later) | ((earlier == later) & (steps[:-1] < steps[1:]))).all())


def _whole(value: object) -> int | None:
    """A whole number of 64 bits, what is behind the point cut off; None for anything else."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if int(value) in _INT64 else None


def _real(value: object) -> float | None:
    if isinstance(value, str):
        return _NON_FINITE.get(value)
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None
