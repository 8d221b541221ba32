"""What does the user's own code measure while a run is recorded: `rldk.log`, and who receives it."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from rldk import scalars
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

_logger = logger(__name__)

Phase = Literal["train", "eval"]

_EVAL: Final = "eval_"
_MOST_WAITING: Final = 20_000
_LAST_STEP: Final = 2**63 - 1024  # the last float below what an event can hold

_open: list[weakref.ref[Inbox]] = []
_said: set[str] = set()


def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Record metrics of your own, from anywhere in the training process.

    A reward function, a data collator, another callback, another thread: what they log goes into the
    journal and the trackers with the trainer's next log, in the same row, and the health rules see it.
    Of several values for one name the last one before that log wins, as with `wandb.log` within a step;
    to get a mean, log a mean. What is logged while the trainer evaluates goes into the evaluation's row.

    The call takes microseconds, and never raises: what is no number is left out, and a note in the journal
    and a warning say so. Where no run is recorded (before training, after it, on other ranks, in a data
    loader's worker) nothing happens but for one warning. Several callbacks that record each get it.

    Args:
        metrics: Names to numbers, numpy scalars or tensors of one element; nested ones get `/` between
            their names. Names stay as they are: one that the trainer has in the same log goes to
            `raw/<name>`, and `eval_<name>` is `<name>` of the evaluation. None is left out.
        step: The optimizer step (`global_step`) that the numbers belong to; by default that of the
            trainer's next log. Numbers of an earlier step get a row of that step, and those of a later
            one wait for it.
    """
    inboxes = [inbox for each in tuple(_open) if (inbox := each()) is not None and inbox.pid == os.getpid()]
    if not inboxes:
        _say_that_nobody_records()
        return
    told = _read(metrics)
    at = None if step is None else _whole(step)
    if step is not None and at is None:
        told.notes.append(f"rldk.log: step {step!r} is no step; the numbers go with the next log")
    for inbox in inboxes:
        inbox.put(told, at)


class Own(NamedTuple):
    """What waits for one row.

    Attributes:
        phase: Whether it was measured in training or in an evaluation.
        step: The step of the row.
        numbers: The last value of each name.
        notes: What was left out, a sentence each.
    """

    phase: Phase
    step: int
    numbers: dict[str, int | float]
    notes: list[str]


class _Key(NamedTuple):
    """Which number waits, or which note; a phase or a step that nobody has told is None."""

    phase: Phase | None
    step: int | None
    name: str
    is_note: bool = False


class Inbox:
    """What one recorder is given by `log`, until it takes it. Any thread may do either.

    A signal's handler may take what waits between any two operations here, and on the thread that is in
    the midst of them, so each of them leaves all in order, and none relies on what the one before found.

    Attributes:
        pid: The process in which it is read: a fork of it records nothing.
        phase: Which phase numbers belong to that do not say so themselves; None between two steps, where an
            evaluation may have begun: they are training's unless `evaluates` is called.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.phase: Phase | None = "train"
        self._waiting: OrderedDict[_Key, int | float] = OrderedDict()  # the latest comes last
        self._lost = 0
        self._lock = threading.RLock()  # SIGTERM may come in the middle of a put, and takes what is there

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, told: scalars.Scalars, step: int | None = None) -> None:
        """Keep numbers for the next log, or for that of a step."""
        with self._lock:
            phase = self.phase
            for name, value in zip(told.names, told.numbers, strict=True):
                is_eval = name.startswith(_EVAL) and name != _EVAL
                key = _Key("eval", step, name.removeprefix(_EVAL)) if is_eval else _Key(phase, step, name)
                self._keep(key, value)
            for note in told.notes:
                self._keep(_Key(phase, step, note, is_note=True), 0)

    def _keep(self, key: _Key, value: float) -> None:
        self._waiting[key] = value
        try:
            self._waiting.move_to_end(key)
            if len(self._waiting) > _MOST_WAITING:  # a trainer that logs nothing must not cost memory
                self._waiting.popitem(last=False)
                self._lost += 1
        except KeyError:  # a signal's handler has just taken it
            return

    def evaluates(self) -> None:
        """Have an evaluation own what was given since the last step's end, and what comes from now on."""
        with self._lock:
            self.phase = "eval"
            for key in tuple(self._waiting):
                if key.phase is None and (value := self._waiting.pop(key, None)) is not None:
                    self._keep(key._replace(phase="eval"), value)

    def take(
        self, step: int, phases: Iterable[Phase] = ("train", "eval"), *, until: float | None = None
    ) -> list[Own]:
        """Give what belongs to a log of this step, and to steps before it, the earliest first.

        Args:
            step: The step of the log, to which belongs what named none.
            phases: Which phases to give.
            until: Give what belongs to steps up to this one; by default, to the log's.

        Returns:
            One for each step and phase.
        """
        last = step if until is None else until
        rows: dict[tuple[int, Phase], Own] = {}
        with self._lock:
            for key in tuple(self._waiting):
                at, phase = step if key.step is None else key.step, key.phase or "train"
                if at > last or phase not in phases or (value := self._waiting.pop(key, None)) is None:
                    continue
                row = rows.setdefault((at, phase), Own(phase, at, {}, []))
                if not key.is_note:
                    row.numbers[key.name] = value
                elif key.name not in row.notes:
                    row.notes.append(key.name)
            if rows:
                lost, self._lost = self._lost, 0
                rows[max(rows)].notes.extend([_lost(lost)] if lost else [])
        return [rows[key] for key in sorted(rows)]

    def give_back(self, owns: Iterable[Own]) -> None:
        """Keep what was taken for the next log, before all else that waits: any other value is newer.

        Args:
            owns: What was taken, the earliest first.
        """
        with self._lock:
            for own in reversed(list(owns)):
                told = {_Key(own.phase, None, name): value for name, value in own.numbers.items()}
                told |= {_Key(own.phase, None, note, is_note=True): 0 for note in own.notes}
                for key in reversed(told):
                    if key not in self._waiting:
                        self._waiting[key] = told[key]
                        self._first(key)

    def _first(self, key: _Key) -> None:
        try:
            self._waiting.move_to_end(key, last=False)
        except KeyError:  # a signal's handler has just taken it
            return


def receive(inbox: Inbox) -> None:
    """Let an inbox have what `log` is given from now on, as long as somebody keeps it."""
    _open.append(weakref.ref(inbox))


def stop(inbox: Inbox) -> None:
    """Let it have nothing more."""
    _open[:] = [each for each in _open if each() not in {inbox, None}]


def _read(metrics: object) -> scalars.Scalars:
    if isinstance(metrics, Mapping):
        return scalars.read(metrics)
    kind = type(metrics).__name__
    note = f"rldk.log takes a mapping of names to numbers; it was given {kind}, which was left out"
    return scalars.Scalars((), (), [note])


def _whole(step: object) -> int | None:
    found = scalars.number(step)
    return int(found) if found is not None and 0 <= found <= _LAST_STEP and found == int(found) else None


def _lost(count: int) -> str:
    return (
        f"rldk.log was given {count} more numbers than the {_MOST_WAITING} that can wait for the trainer's "
        "next log; the earliest were left out"
    )


def _say_that_nobody_records() -> None:
    """Once a process; on the other ranks of a distributed training it is no mistake, and is not said."""
    if os.environ.get("RANK", "0") not in {"", "0"}:
        return
    if any(inbox.pid != os.getpid() for each in tuple(_open) if (inbox := each()) is not None):
        reason = "this process is a fork of the one that records, such as a data loader's worker"
    else:
        reason = (
            "no run is recorded in this process: RLDKCallback does, from the beginning of training to its end"
        )
    if reason not in _said:
        _said.add(reason)
        _logger.warning("rldk.log has no effect here, and what it is given is left out: %s", reason)
