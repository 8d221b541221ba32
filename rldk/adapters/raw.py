"""How do numbers that others have logged become the events of a run."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rldk.bridge import PREFIX
from rldk.event import Event, as_float, as_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.adapters.limits import Names
    from rldk.event import Kind

STEPS: Final = (
    "step",
    "global_step",
    "train/global_step",
    "trainer/global_step",
    "iteration",
    "iter",
    f"{PREFIX}step",
)
"""Keys under which tools log the trainer's step, the last one RLDK in W&B; the first that is there counts."""
ROW_COUNT: Final = "_step"
"""W&B's own count of rows, which is a step only where nothing else is."""
TIMES: Final = ("time", "timestamp", "_timestamp", "wall_time", "ts")
RUNS: Final = ("run_id", "run")
RESERVED: Final = frozenset({ROW_COUNT, "_runtime", "_timestamp", "_wandb", f"{PREFIX}seq"})
"""What W&B adds to every row by itself, and RLDK's count of events there."""
ENDED: Final = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "killed": "KILLED",
}
"""What trackers call the end of a run, in lower case, to what RLDK calls it."""

_INT64: Final = range(-(2**63), 2**63)
_KEYS_SHOWN: Final = 5
_MOST_KEYS: Final = 1000
_LONGEST_WHOLE: Final = 18  # digits that surely fit into 64 bits
_NO_FACTS: Final[Mapping[str, Any]] = {}

# Each unit's clock is read from 1973 to 5138; what is smaller is a duration or a count, and no clock.
_UNITS: Final = ((1e8, 1e11, 1e3), (1e11, 1e14, 1.0), (1e14, 1e17, 1e-3), (1e17, 1e20, 1e-6))


class RawRun:
    """One run of others: its events are raw, in the order in which they are given, and numbered.

    Their times only grow. A row that tells none, or one that is not later than the row before, gets the
    next millisecond, so that each reading gives the same times. Where the first row tells no time the run
    has no clock: its events are counted in milliseconds from 1970 on, and their `wall_time` is 0.

    Args:
        run_id: The run.
        names: Where the names of its metrics are counted.
        facts: What else the run's first event tells in `model_info`.
    """

    def __init__(self, run_id: str, names: Names, facts: Mapping[str, Any] = _NO_FACTS) -> None:
        self.run_id = run_id
        self._names = names
        self._facts = {key: value for key, value in facts.items() if value}
        self._count = 0
        self._began = 0
        self._last = 0
        self._step = 0
        self._has_clock = False
        self._known: set[str] = set()

    def begin(self, at: int | None = None) -> Event:
        """Give the event that begins the run, at a time in milliseconds since the epoch."""
        self._has_clock = at is not None
        self._began = self._last = max(at or 0, 1)
        return self._event("run", 0, {}, self._facts)

    def log(self, step: int, metrics: dict[str, int | float], at: int | None = None) -> list[Event]:
        """Give the event of what was logged at once, after the one that begins the run if it is the first.

        Raises:
            SourceError: There are too many different names to be names.
        """
        begun = [] if self._count else [self.begin(None if at is None else at - 1)]
        if not metrics.keys() <= self._known:
            self._known.update(metrics)
            self._names.add(metrics)
        self._last = max(at or 0, self._last + 1)
        self._step = step
        return [*begun, self._event("metrics", step, metrics, {})]

    def end(self, status: str, at: int | None = None) -> list[Event]:
        """Give the event that tells how the run ended: FINISHED, FAILED or KILLED."""
        begun = [] if self._count else [self.begin(at)]
        self._last = max(at or 0, self._last + 1)
        return [*begun, self._event("end", self._step, {}, {"status": status})]

    def _event(self, kind: Kind, step: int, metrics: dict[str, int | float], facts: dict[str, Any]) -> Event:
        self._count += 1
        return Event(
            kind=kind,
            seq=self._count - 1,
            time=self._last / 1000,
            step=step,
            wall_time=(self._last - self._began) / 1000 if self._has_clock else 0.0,
            metrics=metrics,
            rng={},
            data_slice={},
            model_info={"run_id": self.run_id, "raw": True, **facts},
            notes=[],
        )


class Axis:
    """Finds the step of each row of one run.

    A row that has only W&B's count of rows belongs to the step before, where other rows have a step.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    def step_of(self, row: dict[str, Any]) -> int | None:
        """Take the step out of a row; None where it has none."""
        count = whole(row.pop(ROW_COUNT, None))
        for key in STEPS:
            step = whole(row.get(key))
            if step is not None:
                del row[key]
                self._last = step
                return step
        return count if self._last is None or count is None else self._last


def time_of(row: dict[str, Any]) -> int | None:
    """Take the time out of a row, in milliseconds since the epoch; None where it tells none."""
    for key in TIMES:
        at = milliseconds(row.get(key))
        if at is not None:
            del row[key]
            return at
    return None


class Skips:
    """Counts what is left out of a source, and says it in a sentence each.

    Args:
        source: What is read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._places: dict[str, list[Any]] = {}
        self._keys: Counter[str] = Counter()

    def place(self, what: str, where: str, why: str = "") -> None:
        """Note what is left out, as in "3 `what` were skipped, the first is `where`: `why`"."""
        self._places.setdefault(what, [0, where, why])[0] += 1

    def value(self, key: str) -> None:
        """Note a value that is no number."""
        self._keys[key if key in self._keys or len(self._keys) < _MOST_KEYS else "others"] += 1

    def sentences(self) -> list[str]:
        """Say what was noted; empty where nothing was."""
        told = [
            f"{count} {what} were skipped, the first is {where}{f': {why}' if why else ''}"
            for what, (count, where, why) in self._places.items()
        ]
        if self._keys:
            some = ", ".join(f"{key[:80]} ({count})" for key, count in self._keys.most_common(_KEYS_SHOWN))
            more = f", and {len(self._keys) - _KEYS_SHOWN} more" if len(self._keys) > _KEYS_SHOWN else ""
            told.append(f"{self._keys.total()} values are no numbers and were skipped: {some}{more}")
        return [f"{self._source}: {sentence}" for sentence in told]


def number(value: object) -> int | float | None:
    """Read a number, where NaN and the infinities may be their names; None for anything else."""
    if type(value) is float:
        return value
    if isinstance(value, int):
        whole = int(value)
        return whole if whole in _INT64 else as_float(whole)
    if isinstance(value, str):
        return as_number(value) if value in {"NaN", "Infinity", "-Infinity"} else None
    return float(value) if isinstance(value, float) else None


def number_in(cell: str) -> int | float | None:
    """Read the number that a cell of a table spells; None where it spells none."""
    if len(cell) <= _LONGEST_WHOLE and cell.removeprefix("-").isdecimal():
        return int(cell)
    try:
        return float(cell)
    except ValueError:
        return None


def whole(value: object) -> int | None:
    """Read a step: a whole number of 64 bits, also as a float; None for anything else."""
    if isinstance(value, str):
        value = number_in(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if int(value) in _INT64 else None


def milliseconds(value: object) -> int | None:
    """Read a clock: seconds, milli-, micro- or nanoseconds since the epoch, or an ISO date, UTC by default.

    Returns:
        Milliseconds since the epoch; None for what is no clock, such as a duration.
    """
    if isinstance(value, str):
        return milliseconds(number_in(value)) if number_in(value) is not None else _date(value)
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    told = as_float(value)
    return next((round(told * scale) for low, high, scale in _UNITS if low <= told < high), None)


def _date(text: str) -> int | None:
    try:
        return _in_utc(datetime.fromisoformat(text.strip().removesuffix(" UTC")))
    except ValueError:
        return None


def _in_utc(date: datetime) -> int | None:
    known = date if date.tzinfo else date.replace(tzinfo=UTC)
    try:
        told = known.timestamp()
    except (OverflowError, ValueError):
        return None
    return round(told * 1000) if math.isfinite(told) and told > 0 else None
