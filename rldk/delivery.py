"""How a batch reaches a tracker: from the journal to one sink, on a thread of its own."""

from __future__ import annotations

import logging
import random
import shlex
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from rldk import journal
from rldk.causes import in_short
from rldk.cursor import Cursor, CursorFile, beginning, is_at
from rldk.errors import SinkBusyError, SinkClosedError, SinkLostError, SinkRejectedError
from rldk.hiding import hidden
from rldk.redact import logger, redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rldk.bridge import Home, Sink
    from rldk.event import Event
    from rldk.settings import Settings

_logger = logger(__name__)

_T = TypeVar("_T")
_MOST_REASONS: Final = 20
_LONGEST_REQUESTED_PAUSE_S: Final = 900.0
_GLANCE_S: Final = 0.05
_GRACE_S: Final = 0.25


class _AbandonedError(Exception):
    """The deadline is over."""


class _Batch(NamedTuple):
    """What was read of the journal: the events to send, where reading ended, and the cursor for then."""

    events: list[Event]
    end: int
    cursor: Cursor


class DeliveryReport(msgspec.Struct, frozen=True):
    """What became of the events of one journal at one tracker.

    Attributes:
        tracker: Name of the bridge.
        home: The tracker run; None where it could not be opened.
        delivered: Events that the tracker accepted from this delivery, each counted once.
        rejected: Events that it refused for good.
        waiting: Events that have not reached it.
        is_closed: Whether it also got the files, and the run's end.
        reasons: What went wrong, a sentence each.
        failures: How often a try failed, whatever came of the next one.
        replayed: Events that it had accepted before and turned out not to hold, which were sent again.
    """

    tracker: str
    home: Home | None
    delivered: int
    rejected: int
    waiting: int
    is_closed: bool
    reasons: tuple[str, ...]
    failures: int = 0
    replayed: int = 0


class Delivery:
    """Carries a journal to one sink.

    The thread starts with `start`, finds out how far the tracker has the journal, sends what follows,
    and tries again for as long as the tracker fails, with growing pauses. Memory is bounded by one
    batch. It never raises into the caller.

    Args:
        path: The journal.
        sink: Where the events go.
        run: The event that begins this segment.
        start: Offset of that event. A tracker run that is new to a journal which already reached
            another one gets what follows from there; the first one gets the whole journal.
        settings: Batching, retries and deadline.
    """

    def __init__(self, path: Path, sink: Sink, *, run: Event, start: int, settings: Settings) -> None:
        self._path = path
        self._sink = sink
        self._run = hidden(run)
        self._settings = settings
        self._start = start
        self._file = CursorFile(path, sink.name)
        self._cursor = self._file.load() or Cursor(journal=beginning(path) or run.time)
        self._newest_seq = run.seq
        self._home: Home | None = None
        self._delivered = 0
        self._rejected = 0
        self._replayed = 0
        self._failures = 0
        self._replay_until = 0.0
        self._held_until = 0.0
        self._offset = 0
        self._failing_since = 0.0
        self._is_closed = False
        self._reasons: list[str] = []
        self._status: str | None = "FINISHED"
        self._is_exit = False
        self._artifacts: Sequence[Path] = ()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"rldk-{sink.name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self, newest_seq: int) -> None:
        """Say that the journal has grown up to this event."""
        self._newest_seq = newest_seq
        if not self._wake.is_set():  # it costs the training's thread less than to set it again
            self._wake.set()

    def finish(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Say that the journal is complete: deliver the rest, upload the files, end the tracker run."""
        self._status, self._artifacts, self._is_exit = status, artifacts, is_exit
        self._closing.set()
        self._wake.set()

    def is_running(self) -> bool:
        """Whether it still has something to do."""
        return self._thread.is_alive()

    def failing_s(self) -> float:
        """For how many seconds the tracker has failed; 0 where its last answer was a good one."""
        return time.monotonic() - self._failing_since if self._failing_since else 0.0

    def join(self, timeout_s: float, hurry: threading.Event | None = None) -> None:
        """Wait for the end of the delivery, but no longer than this, nor once there is a hurry."""
        end = time.monotonic() + timeout_s
        while self.is_running() and (left := end - time.monotonic()) > 0:
            if hurry is not None and hurry.is_set():
                return
            self._thread.join(min(left, _GLANCE_S))

    def abandon(self) -> None:
        """Let it end at its next opportunity; what is left waits in the journal."""
        self._abandoned.set()
        self._closing.set()
        self._wake.set()

    def report(self) -> DeliveryReport:
        """Count what was delivered, what the tracker refused, and what waits in the journal."""
        return DeliveryReport(
            tracker=self._sink.name,
            home=self._home,
            delivered=self._delivered,
            rejected=self._cursor.rejected + self._rejected,
            waiting=max(self._newest_seq - self._cursor.seq, 0),
            is_closed=self._is_closed,
            reasons=tuple(dict.fromkeys(self._reasons)),
            failures=self._failures,
            replayed=self._replayed,
        )

    def command(self) -> str:
        """How to deliver the rest by hand."""
        return shlex.join(["rldk", "sync", str(self._path), "--to", self._sink.name])

    def _work(self) -> None:
        try:
            self._insist("take over", self._take_over)
            self._deliver_and_close()
        except SinkRejectedError as error:
            self._note(str(error))
            _logger.warning("%s refused the run: %s", self._sink.name, error)
        except SinkClosedError as error:
            self._note(str(error))
        except _AbandonedError:
            _logger.debug("%s: given up at the deadline", self._sink.name)
        finally:
            self._file.release()

    def _take_over(self) -> None:
        try:
            self._file.take()
        except PermissionError as error:
            remedy = f"make the folder of {self._path} writable, or copy the journal elsewhere"
            raise SinkClosedError(f"{in_short(error)}; {remedy}") from error
        self._cursor = self._file.load() or self._cursor  # whoever was at it before has moved it

    def _deliver_and_close(self) -> None:
        while not self._is_closed:
            try:
                home = self._home = self._insist("open", self._open)
                self._move_to(self._insist("look up", partial(self._resumed, home)))
                self._deliver_all()
                self._insist("close", self._close_sink)
                if not self._cursor.rejected:  # else the next call says so again
                    self._move_to(msgspec.structs.replace(self._cursor, closed_at=self._cursor.at))
                self._is_closed = True
            except SinkLostError as error:
                self._failed("connection", error)
                self._pause(self._settings.retry_first_s)

    def _open(self) -> Home:
        return self._sink.open(self._run)

    def _close_sink(self) -> None:
        self._sink.close(self._status, self._artifacts, is_exit=self._is_exit)

    def _deliver_all(self) -> None:
        while True:
            is_last_look = self._closing.is_set()
            while self._deliver_batch():
                pass
            if is_last_look:
                return
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(self._settings.linger_s)

    def _deliver_batch(self) -> bool:
        batch = self._insist("read", self._next_batch)
        if batch.events:
            self._send(batch.events)
        has_moved, self._offset = batch.end != self._offset, batch.end
        if batch.cursor != self._cursor:
            refused, self._rejected = self._cursor.rejected + self._rejected, 0
            self._move_to(msgspec.structs.replace(batch.cursor, rejected=refused))
        return has_moved

    def _next_batch(self) -> _Batch:
        """Read on, past what the tracker holds, until a batch is full."""
        events: list[Event] = []
        end, last, size = self._offset, None, 0
        for entry in journal.read(self._path, end):
            if entry.event is not None:
                last = {"at": entry.event.time, "seq": entry.event.seq, "offset": end}
                if entry.event.time > self._held_until:
                    events.append(hidden(entry.event))  # the journal may be older than this redactor
                    size += entry.end - end
            end = entry.end
            if len(events) >= self._settings.batch_events or size >= self._settings.batch_bytes:
                break
        return _Batch(events, end, msgspec.structs.replace(self._cursor, **last) if last else self._cursor)

    def _send(self, events: list[Event]) -> None:
        """Send a batch; one that is refused is halved, so that a bad event holds up no other."""
        try:
            self._insist("send", lambda: self._sink.send(events))
        except SinkRejectedError as error:
            if len(events) == 1:
                self._reject(events[0], error)
                return
            half = len(events) // 2
            self._send(events[:half])
            self._send(events[half:])
        else:
            again = [event for event in events if event.time <= self._replay_until]
            # An event without a number leaves nothing in a tracker by which it could be found there.
            self._replayed += sum(bool(event.metrics) for event in again)
            self._delivered += len(events) - len(again)

    def _reject(self, event: Event, error: SinkRejectedError) -> None:
        self._rejected += 1
        reason = f"event {event.seq} (step {event.step}): {error}"
        self._note(reason)
        _logger.warning("%s refused %s", self._sink.name, reason)

    def _note(self, reason: str) -> None:
        if len(self._reasons) < _MOST_REASONS:
            self._reasons.append(redact_text(reason))

    def _insist(self, what: str, action: Callable[[], _T]) -> _T:
        """Do it again until the tracker accepts it, refuses it for good, or the deadline is over."""
        pauses = _pauses(self._settings)
        while not self._abandoned.is_set():
            try:
                result = action()
            except (SinkRejectedError, SinkClosedError, SinkLostError):
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a tracker does stays here
                self._failed(what, error)
                self._pause(max(next(pauses), _requested_pause(error)))
            else:
                self._recovered()
                return result
        raise _AbandonedError

    def _failed(self, what: str, error: BaseException) -> None:
        self._failures += 1
        reason = f"{what} failed: {in_short(error)}"
        self._note(reason)
        level = logging.DEBUG if self._failing_since else logging.WARNING
        _logger.log(level, "%s: %s; trying again, events wait in %s", self._sink.name, reason, self._path)
        self._failing_since = self._failing_since or time.monotonic()

    def _recovered(self) -> None:
        if self._failing_since:
            _logger.info("%s answers again", self._sink.name)
        self._failing_since = 0.0

    def _pause(self, seconds: float) -> None:
        """Wait before another try; the end of training cuts the first wait after it short."""
        awaited = self._abandoned if self._closing.is_set() else self._closing
        awaited.wait(seconds)

    def _resumed(self, home: Home) -> Cursor:
        """Where to go on: behind the last event that the tracker surely holds."""
        saved = self._cursor
        if saved.tracker_run and saved.tracker_run != home.run_id:
            held = max(self._sink.settle(None), _just_before(self._run.time))
            where = Cursor(journal=saved.journal, seq=self._run.seq - 1)
            self._offset = self._start
        else:
            held = self._sink.settle(saved.receipt if saved.tracker_run else None)
            self._replay_until = max(self._replay_until, saved.at)
            is_whole = held >= saved.at and is_at(self._path, saved)
            where = saved if is_whole else Cursor(journal=saved.journal)
            self._offset = where.offset
        self._held_until = held
        return msgspec.structs.replace(where, tracker_run=home.run_id, source=home.source, at=held, base=held)

    def _move_to(self, cursor: Cursor) -> None:
        self._cursor = cursor
        try:
            self._file.save(cursor)
        except OSError as error:
            self._note(f"cursor: {error}")
            _logger.warning("%s: cannot save %s: %s", self._sink.name, self._file.path, error)


def finish_all(
    deliveries: Iterable[Delivery],
    status: str | None,
    artifacts: Sequence[Path],
    deadline_s: float,
    *,
    is_exit: bool = False,
    hurry: threading.Event | None = None,
) -> list[DeliveryReport]:
    """End all deliveries within one deadline, and say once what did not arrive.

    Args:
        deliveries: What to end.
        status: How the run ended.
        artifacts: Files that the trackers get, too.
        deadline_s: How long to wait for all of them together, in seconds.
        is_exit: Whether the process is ending before training did.
        hurry: Set, from a signal's handler for example, it ends the waiting at once.
    """
    running = list(deliveries)
    for delivery in running:
        delivery.finish(status, artifacts, is_exit=is_exit)
    end = time.monotonic() + deadline_s
    try:
        for delivery in running:
            delivery.join(max(end - time.monotonic(), 0.0), hurry)
    finally:  # Ctrl-C ends the waiting, too, and goes on from here
        for delivery in running:
            delivery.abandon()
        for delivery in running:
            # A thread that is inside native code when the interpreter ends can abort the process
            delivery.join(_GRACE_S)
            _say_what_waits(delivery)
    return [delivery.report() for delivery in running]


def _say_what_waits(delivery: Delivery) -> None:
    report = delivery.report()
    if not report.is_closed:
        reasons = "; ".join(report.reasons) or "no answer in time"
        text = "%s is incomplete (%s): %d events wait for the next start of this run, or for: %s"
        _logger.warning(text, report.tracker, reasons, report.waiting, delivery.command())


def _just_before(time_: float) -> float:
    return time_ - 0.0005  # events' times are whole milliseconds


def _requested_pause(error: BaseException) -> float:
    asked = error.retry_after_s if isinstance(error, SinkBusyError) else 0.0
    return min(asked, _LONGEST_REQUESTED_PAUSE_S)


def _pauses(settings: Settings) -> Iterator[float]:
    """Exponential backoff with jitter, in seconds."""
    pause = settings.retry_first_s
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads tries, guards nothing
        pause = min(pause * 2, settings.retry_most_s)
