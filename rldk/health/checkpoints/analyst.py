"""How are checkpoints analysed while training goes on: one after the other, on a thread of its own."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from rldk.errors import RLDKError
from rldk.health.checkpoints.folder import measure
from rldk.health.checkpoints.record import Earlier
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rldk.health.checkpoints.record import Analysis

    Emit = Callable[[int, dict[str, int | float], dict[str, Any]], object]

_logger = logger(__name__)

MOST_WAITING: Final = 2
"""Checkpoints that wait for their analysis; when training saves faster than that, the oldest is left out."""

_WORK_S: Final = 0.02
_REST_S: Final = 0.002  # the interpreter is free for so long at least, out of each 22 ms
_GRACE_S: Final = 2.0
_NICE: Final = 10  # weighs a tenth of the training's threads where cores are scarce


class _GivenUpError(Exception):
    """There is no time left."""


class _Job:
    """One checkpoint, told of once, whatever happens."""

    def __init__(self, step: int, folder: Path, emit: Emit) -> None:
        self.step = step
        self.folder = folder
        self.emit = emit
        self.is_told = False
        try:
            self.measured = measure(folder)
        except OSError:  # a file is removed while it is looked at
            self.measured = {}


class Analyst:
    """Analyses the checkpoints of a run in the background, each beside the previous and the first one.

    The work is done by one thread, without the thread pools of torch and BLAS, with rests in which the
    interpreter is free for training, and on Linux with a low priority (nice 10), so that it takes what
    cores leave free. Files are read in small pieces and never mapped into memory. The thread is a daemon
    and starts with the first checkpoint; a fork of the process does nothing. "Previous" is the last
    checkpoint that could be analysed. What is remembered of it tells whether its weights have changed, and
    how their norm has, when its files are gone already.

    Args:
        trainable: How many of the model's parameters are trained, and how many there are.
        trainer: Short name of the trainer, such as `PPO`.
        earlier: Checkpoints of the same run that are there already, in their order, as when it is resumed.

    Attributes:
        skipped: How many checkpoints were left out as training saved faster than they could be read.
    """

    def __init__(
        self, *, trainable: tuple[int, int] | None = None, trainer: str = "", earlier: Iterable[Path] = ()
    ) -> None:
        self.skipped = 0
        self._trainable = trainable
        self._trainer = trainer
        there = [Earlier(folder) for folder in earlier]
        self._first = there[0] if there else None
        self._previous = there[-1] if there else None
        self._pid = os.getpid()
        self._changed = threading.Condition()  # its lock is reentrant: SIGTERM may come within submit
        self._waiting: deque[_Job] = deque()
        self._left_out: list[_Job] = []
        self._current: _Job | None = None
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._gives_up = threading.Event()
        self._rested = 0.0

    def submit(self, step: int, folder: Path, emit: Emit) -> None:
        """Have a checkpoint analysed. Returns at once, and raises nothing.

        Args:
            step: The step at which it was saved.
            folder: Where it is.
            emit: Called once, on the analyst's thread (or by `finish`), with the step, the metrics and the
                facts of its event: `checkpoint` and `analysis`. Of one that was not analysed, the metrics
                are `files` and `size_bytes`, and `analysis["unavailable"]` tells why.
        """
        if os.getpid() != self._pid or self._is_closing:
            return
        job = _Job(step, folder, emit)
        with self._changed:
            self._waiting.append(job)
            while len(self._waiting) > MOST_WAITING:
                self._left_out.append(self._waiting.popleft())
                self.skipped += 1
            self._changed.notify()
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._work, name="rldk-checkpoints", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads can be had
                _logger.warning("checkpoint analysis does not start: %s", error)
                self._thread = None

    def finish(self, timeout_s: float) -> list[int]:
        """Wait for what is under way, and end; what is not done by then is told as not analysed.

        Args:
            timeout_s: How long to wait, in seconds; the thread then has two more to stop.

        Returns:
            The steps of the checkpoints that were not analysed for want of time.
        """
        if os.getpid() != self._pid:
            return []
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(max(timeout_s, 0))
            self._gives_up.set()
            self._thread.join(_GRACE_S)
        with self._changed:
            current = [self._current] if self._current and not self._current.is_told else []
            left = [*current, *self._waiting]
            self._waiting.clear()
        for job in left:
            self._tell_why(job, "training has ended before it could be read")
        self._tell_left_out()
        return [job.step for job in left]

    def _work(self) -> None:
        _be_nice()
        while (job := self._next()) is not None:
            self._tell_left_out()
            try:
                self._analyse(job)
            except _GivenUpError:
                return
        self._tell_left_out()

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            if not self._waiting or self._gives_up.is_set():
                return None
            self._current = self._waiting.popleft()
            return self._current

    def _analyse(self, job: _Job) -> None:
        from rldk.health.checkpoints.analysis import analysed  # noqa: PLC0415  # it imports numpy

        self._rested = time.monotonic()
        try:
            told: Analysis = analysed(
                job.folder,
                self._previous,
                self._first,
                trainable=self._trainable,
                trainer=self._trainer,
                pause=self._pause,
            )
        except (RLDKError, OSError, MemoryError) as error:
            self._tell_why(job, str(error) or "there is not enough memory")
            return
        self._previous = told.earlier
        self._first = self._first or told.earlier
        if self._first.folder == told.earlier.folder:
            self._first = told.earlier
        self._tell(job, told.metrics | job.measured, told.facts)

    def _pause(self) -> None:
        """Leave the interpreter to training for a while."""
        if self._gives_up.is_set():
            raise _GivenUpError
        if time.monotonic() - self._rested > _WORK_S:
            time.sleep(_REST_S)
            self._rested = time.monotonic()

    def _tell_left_out(self) -> None:
        with self._changed:
            left, self._left_out = self._left_out, []
        for job in left:
            self._tell_why(job, "training saves faster than checkpoints can be read: it was left out")

    def _tell_why(self, job: _Job, reason: str) -> None:
        self._tell(job, job.measured, {"unavailable": {"weights": reason}})

    def _tell(self, job: _Job, metrics: dict[str, int | float], analysis: dict[str, Any]) -> None:
        with self._changed:
            if job.is_told:
                return
            job.is_told = True
        try:
            job.emit(job.step, metrics, {"checkpoint": str(job.folder), "analysis": analysis})
        except (RLDKError, OSError) as error:
            _logger.warning("the analysis of %s is not recorded: %s", job.folder, error)


def _be_nice() -> None:
    """Lower the priority of this thread alone, as Linux can.

    See https://man7.org/linux/man-pages/man2/setpriority.2.html
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        try:
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
        except OSError as error:  # a container may forbid it
            _logger.debug("the checkpoint analysis keeps its priority: %s", error)
