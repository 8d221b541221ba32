"""What has one run logged: its metrics events in columns, while they are being read."""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from rldk.errors import SourceError
from rldk.event import as_float, utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from rldk.event import Event

    Places = NDArray[np.int64]
    Values = NDArray[np.float64]

NO_COUNT: Final = -(2**63)
"""Stands for a count that nobody told."""

MOST_NAMES: Final = 100_000
"""Different metrics of one run."""

_MOST_BLOCKS: Final = 1000


class Facts(NamedTuple):
    """What many events of a run repeat."""

    phase: str
    segment: int
    git_sha: str | None
    seed: int | None


class Start(NamedTuple):
    """A start of training: its segment, and the step from which it went on."""

    segment: int
    step: int


class Rows:
    """The metrics events of one run: 8 bytes a number, and 48 an event, where logs have the same names.

    Attributes:
        run_id: The run.
        facts: What the events repeat; `columns` tells which event has which.
        starts: Each start of training.
        segments: Every segment that any event tells of.
        continues: The run whose checkpoint this one resumed; None for none.
        trainer: The trainer that the events name; empty for none.
        has_ended: Whether an event tells that the run has ended.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.facts: list[Facts] = []
        self.starts: list[Start] = []
        self.segments: set[int] = set()
        self.continues: str | None = None
        self.trainer = ""
        self.has_ended = False
        self._numbers: dict[Facts, int] = {}
        self._info: dict[str, Any] = {}
        self._rng: dict[str, Any] | None = None
        self._last = 0
        self._who, self._steps, self._wall_times = array("q"), array("q"), array("d")
        self._tokens_in, self._tokens_out = array("q"), array("q")
        self._counts = ((self._tokens_in, "tokens_in"), (self._tokens_out, "tokens_out"))
        self._known: set[str] = set()
        self._blocks: dict[tuple[str, ...], _Block] = {}
        self._cells: dict[str, _Block] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, event: Event) -> None:
        """Take an event over; of those that are no metrics only what they tell of the run.

        Raises:
            SourceError: There are too many different metrics to be metrics.
        """
        info = event.model_info
        if event.kind != "metrics":
            self._note(event)
            return
        if info != self._info or event.rng != self._rng:
            self._info, self._rng = info, event.rng
            self._last = self._new_facts(event)
        self._put(event.metrics)
        self._who.append(self._last)
        self._steps.append(event.step)
        self._wall_times.append(event.wall_time)
        counts = event.data_slice
        for column, name in self._counts:
            try:
                column.append(counts.get(name, NO_COUNT))
            except (TypeError, OverflowError):  # what no column can hold, or a whole number that is a float
                column.append(_count(counts[name]))

    def _note(self, event: Event) -> None:
        info = event.model_info
        self.segments.add(event.segment)
        self.trainer = str(info.get("trainer") or self.trainer)
        if event.kind in {"run", "end"}:
            self.has_ended = event.kind == "end"
        continues = info.get("continues")
        if isinstance(continues, str):
            self.continues = continues
        if event.kind == "run" and not info.get("outside_training"):
            self.starts.append(Start(event.segment, event.step))

    def _new_facts(self, event: Event) -> int:
        self.segments.add(event.segment)
        self.trainer = str(event.model_info.get("trainer") or self.trainer)
        sha, seed = event.model_info.get("git_sha"), whole(event.rng.get("seed"))
        return self._number(
            Facts(utf8(event.phase), event.segment, utf8(sha) if isinstance(sha, str) else None, seed)
        )

    def _number(self, facts: Facts) -> int:
        if facts not in self._numbers:
            self._numbers[facts] = len(self.facts)
            self.facts.append(facts)
        return self._numbers[facts]

    def _put(self, metrics: Mapping[str, int | float]) -> None:
        """Most logs have the names of the one before, and their numbers are appended at once."""
        names = tuple(metrics)
        block = self._blocks.get(names) or self._new_block(names)
        if block is None:
            self._put_singly(metrics)
            return
        block.places.append(len(self._steps))
        try:
            block.values.frombytes(block.pack(*metrics.values()))
        except struct.error:  # an integer beyond the floats
            block.values.extend(map(as_float, metrics.values()))

    def _new_block(self, names: tuple[str, ...]) -> _Block | None:
        self._known.update(map(utf8, names))
        if len(self._known) > MOST_NAMES:
            reason = f"the run {self.run_id[:80]} holds more than {MOST_NAMES:,} different metrics"
            raise SourceError(self.run_id[:80], reason, "check that the keys are names, not values")
        if len(self._blocks) >= _MOST_BLOCKS:
            return None
        block = self._blocks[names] = _Block.of(len(names))
        return block

    def _put_singly(self, metrics: Mapping[str, int | float]) -> None:
        for name, value in metrics.items():
            block = self._cells.get(name)
            if block is None:
                block = self._cells[name] = _Block.of(1)
            block.values.append(as_float(value))
            block.places.append(len(self._steps))

    def extend(self, other: Rows, segments: Mapping[int, int] | None = None) -> None:
        """Take over the events of another part of the run, behind those that are here.

        Args:
            other: The part.
            segments: What its segments are called here, where that is not what they are called there.
        """
        moved = {segment: segment for segment in other.segments} if segments is None else segments
        at = len(self)
        numbers = [self._number(facts._replace(segment=moved[facts.segment])) for facts in other.facts]
        self._who.extend(numbers[who] for who in other._who)
        for mine, theirs in zip(self._columns(), other._columns(), strict=True):
            mine.extend(theirs)
        for names, block in other._blocks.items():
            self._blocks.setdefault(names, _Block.of(len(names))).extend(block, at)
        for name, block in other._cells.items():
            self._cells.setdefault(name, _Block.of(1)).extend(block, at)
        self.continues = self.continues or other.continues
        self._known |= other._known
        self.starts += [Start(moved[start.segment], start.step) for start in other.starts]
        self.segments.update(moved.values())
        self.trainer = self.trainer or other.trainer
        self.has_ended = other.has_ended or self.has_ended

    def _columns(self) -> tuple[array[Any], ...]:
        return self._steps, self._wall_times, self._tokens_in, self._tokens_out

    @property
    def who(self) -> Places:
        """Which of `facts` each event has, of shape (events,)."""
        return np.frombuffer(self._who, dtype=np.int64)

    @property
    def steps(self) -> Places:
        """The step of each event, of shape (events,)."""
        return np.frombuffer(self._steps, dtype=np.int64)

    @property
    def wall_times(self) -> Values:
        """Seconds since the run began at each event, of shape (events,)."""
        return np.frombuffer(self._wall_times, dtype=np.float64)

    @property
    def tokens(self) -> Mapping[str, Places]:
        """The counts that each event tells, or `NO_COUNT`, of shape (events,)."""
        counts = {"tokens_in": self._tokens_in, "tokens_out": self._tokens_out}
        return {name: np.frombuffer(count, dtype=np.int64) for name, count in counts.items()}

    def repeats(self) -> int:
        """How many logs have the step, the phase and the names of another one, which the last replaces."""
        steps, who = self.steps, self.who
        if bool(np.all(steps[1:] > steps[:-1])):
            return 0
        count = 0
        for names, block in self._pieces():
            places = np.frombuffer(block.places, dtype=np.int64)
            order = np.lexsort((who[places], steps[places]))
            at, by = steps[places][order], who[places][order]
            count += int(np.sum((at[1:] == at[:-1]) & (by[1:] == by[:-1]))) if names else 0
        return count

    def cells(self) -> dict[str, list[tuple[Places, Values]]]:
        """For each metric the numbers of the events that have it, and their values.

        A metric has several pairs where it was logged beside different others; the numbers of an
        event are counted from 0, and within a pair they grow.
        """
        found: dict[str, list[tuple[Places, Values]]] = {}
        for names, block in self._pieces():
            places = np.frombuffer(block.places, dtype=np.int64)
            matrix = np.frombuffer(block.values, dtype=np.float64).reshape(-1, len(names) or 1)
            for name, column in zip(names, np.ascontiguousarray(matrix.T), strict=False):
                found.setdefault(utf8(name), []).append((places, column))
        return found

    def _pieces(self) -> Iterator[tuple[Sequence[str], _Block]]:
        yield from self._blocks.items()
        yield from (((name,), block) for name, block in self._cells.items())


class _Block(NamedTuple):
    """Events that measured the same metrics: their numbers, and their values row by row."""

    places: array[int]
    values: array[float]
    pack: Callable[..., bytes]
    """Turns a row of values into the bytes of so many floats, which is twice as fast as to append them."""

    @classmethod
    def of(cls, width: int) -> _Block:
        """An empty one, for events of so many metrics."""
        return cls(array("q"), array("d"), struct.Struct(f"{width}d").pack)

    def extend(self, other: _Block, at: int) -> None:
        self.places.extend(place + at for place in other.places)
        self.values.extend(other.values)


def _count(value: object) -> int:
    read = whole(value)
    return NO_COUNT if read is None else read


def whole(value: object) -> int | None:
    """Read a whole number that a column of 64 bits can hold; None for anything else."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole and -(2**63) <= value < 2**63 else None  # type: ignore[operator,call-overload]
