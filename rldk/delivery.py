"""How a batch reaches a tracker: from the journal to one sink, on a thread of its own."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from rldk import journal
from rldk.errors import SinkClosedError, SinkRejectedError
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rldk.bridge import Home, Sink
    from rldk.event import Event
    from rldk.settings import Settings

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_MOST_REASONS: Final = 20


class _AbandonedError(Exception):
    """The deadline is over."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a journal has reached one tracker run.

    Attributes:
        tracker_run: The tracker's own id of the run.
        journal: Time of the journal's first event: another journal of the same name begins at another.
        offset: Where the next line begins, in bytes; a hint, for the file may have been cut.
        seq: The last event that the tracker accepted or refused for good.
    """

    tracker_run: str
    journal: float
    offset: int
    seq: int


class DeliveryReport(msgspec.Struct, frozen=True):
    """What became of the events of one journal at one tracker.

    Attributes:
        tracker: Name of the bridge.
        home: The tracker run; None where it could not be opened.
        delivered: Events that the tracker accepted in this segment.
        rejected: Events that it refused for good.
        waiting: Events that have not reached it.
        is_closed: Whether it also got the files, and the run's end.
        reasons: What went wrong, a sentence each.
        failures: How often a try failed, whatever came of the next one.
    """

    tracker: str
    home: Home | None
    delivered: int
    rejected: int
    waiting: int
    is_closed: bool
    reasons: tuple[str, ...]
    failures: int = 0


class Delivery:
    """Carries a journal to one sink.

    The thread starts with `start`, sends what the journal holds beyond the saved cursor, and tries
    again for as long as the tracker fails, with growing pauses. Memory is bounded by one batch. It
    never raises into the caller.

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
        self._run = run
        self._settings = settings
        self._start = start
        self._cursor_path = cursor_path(path, sink.name)
        self._cursor = _load_cursor(self._cursor_path, _beginning(path))
        self._newest_seq = run.seq
        self._home: Home | None = None
        self._delivered = 0
        self._rejected = 0
        self._failures = 0
        self._is_failing = False
        self._is_closed = False
        self._reasons: list[str] = []
        self._status = "FINISHED"
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
        self._wake.set()

    def finish(self, status: str, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Say that the journal is complete: deliver the rest, upload the files, end the tracker run."""
        self._status, self._artifacts, self._is_exit = status, artifacts, is_exit
        self._closing.set()
        self._wake.set()

    def join(self, timeout_s: float) -> DeliveryReport:
        """Wait for the end of the delivery, but no longer than this, and tell what came of it."""
        self._thread.join(timeout_s)
        self._abandoned.set()
        return self.report()

    def report(self) -> DeliveryReport:
        """Count what was delivered, what the tracker refused, and what waits in the journal."""
        waiting = max(self._newest_seq - self._cursor.seq, 0)
        return DeliveryReport(
            tracker=self._sink.name,
            home=self._home,
            delivered=self._delivered,
            rejected=self._rejected,
            waiting=waiting,
            is_closed=self._is_closed,
            reasons=tuple(dict.fromkeys(self._reasons)),
            failures=self._failures,
        )

    def _work(self) -> None:
        try:
            self._home = self._insist("open", lambda: self._sink.open(self._run))
            home = self._home
            self._cursor = self._insist("read", lambda: self._resume(home))
            self._deliver_all()
            self._insist("close", self._close_sink)
            self._is_closed = True
        except SinkRejectedError as error:
            self._note(str(error))
            _logger.warning("%s refused the run: %s", self._sink.name, redact_text(str(error)))
        except SinkClosedError as error:
            self._note(str(error))
        except _AbandonedError:
            _logger.debug("%s: given up at the deadline", self._sink.name)

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
        events = [entry.event for entry in batch if entry.event is not None]
        if events:
            self._send(events)
        if batch:
            self._move_to(batch[-1].end, max((e.seq for e in events), default=self._cursor.seq))
        return bool(batch)

    def _next_batch(self) -> list[journal.Entry]:
        unread = journal.read(self._path, self._cursor.offset)
        unsent = (e for e in unread if e.event is None or e.event.seq > self._cursor.seq)
        return list(itertools.islice(unsent, self._settings.batch_events))

    def _send(self, events: list[Event]) -> None:
        """Send a batch; one that is refused goes event by event, so that a bad one holds up no other."""
        try:
            self._insist("send", lambda: self._sink.send(events))
            self._delivered += len(events)
        except SinkRejectedError as error:
            if len(events) == 1:
                self._reject(events[0], error)
            else:
                for event in events:
                    self._send([event])

    def _reject(self, event: Event, error: SinkRejectedError) -> None:
        self._rejected += 1
        reason = redact_text(f"event {event.seq} (step {event.step}): {error}")
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
            except (SinkRejectedError, SinkClosedError):
                raise
            except Exception as error:  # noqa: BLE001  # the boundary: whatever a tracker does stays here
                self._failed(what, error)
                self._pause(next(pauses))
            else:
                self._recovered()
                return result
        raise _AbandonedError

    def _failed(self, what: str, error: Exception) -> None:
        self._failures += 1
        reason = redact_text(f"{what} failed: {type(error).__name__}: {error}")
        self._note(reason)
        level = logging.DEBUG if self._is_failing else logging.WARNING
        _logger.log(level, "%s: %s; trying again, events wait in %s", self._sink.name, reason, self._path)
        self._is_failing = True

    def _recovered(self) -> None:
        if self._is_failing:
            _logger.info("%s answers again", self._sink.name)
        self._is_failing = False

    def _pause(self, seconds: float) -> None:
        """Wait before another try; the end of training cuts the first wait after it short."""
        awaited = self._abandoned if self._closing.is_set() else self._closing
        awaited.wait(seconds)

    def _resume(self, home: Home) -> Cursor:
        saved = self._cursor
        if saved.seq < 0:
            return msgspec.structs.replace(saved, tracker_run=home.run_id)
        if saved.tracker_run != home.run_id:
            return Cursor(home.run_id, saved.journal, self._start, self._run.seq - 1)
        if _is_line_start(self._path, saved.offset):
            return saved
        return msgspec.structs.replace(saved, offset=0)

    def _move_to(self, offset: int, seq: int) -> None:
        self._cursor = msgspec.structs.replace(self._cursor, offset=offset, seq=seq)
        temporary = self._cursor_path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(self._cursor))
            temporary.replace(self._cursor_path)
        except OSError as error:
            self._note(f"cursor: {error}")
            _logger.warning("%s: cannot save %s: %s", self._sink.name, self._cursor_path, error)


def finish_all(
    deliveries: Iterable[Delivery],
    status: str,
    artifacts: Sequence[Path],
    deadline_s: float,
    *,
    is_exit: bool = False,
) -> list[DeliveryReport]:
    """End all deliveries within one deadline, and say once what did not arrive."""
    running = list(deliveries)
    for delivery in running:
        delivery.finish(status, artifacts, is_exit=is_exit)
    end = time.monotonic() + deadline_s
    reports = [delivery.join(max(end - time.monotonic(), 0.0)) for delivery in running]
    for report in reports:
        if not report.is_closed:
            reasons = "; ".join(report.reasons) or "no answer in time"
            text = "%s is incomplete (%s): %d events wait in the journal for the next start of this run"
            _logger.warning(text, report.tracker, reasons, report.waiting)
    return reports


def cursor_path(path: Path, tracker: str) -> Path:
    """Where the cursor of one journal and tracker is kept."""
    return path.with_name(f"{path.name.removesuffix(journal.SUFFIX)}_{tracker}.cursor")


def _pauses(settings: Settings) -> Iterator[float]:
    """Exponential backoff with jitter, in seconds."""
    pause = settings.retry_first_s
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads tries, guards nothing
        pause = min(pause * 2, settings.retry_most_s)


def _beginning(path: Path) -> float:
    """Time of a journal's first event."""
    return next((e.event.time for e in journal.read(path) if e.event is not None), 0.0)


def _load_cursor(path: Path, begins: float) -> Cursor:
    """Read the cursor of the journal that begins then; one at its start where there is none."""
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=Cursor)
    except (OSError, msgspec.MsgspecError):
        saved = None
    return saved if saved is not None and saved.journal == begins else Cursor("", begins, 0, -1)


def _is_line_start(path: Path, offset: int) -> bool:
    """Whether a saved offset still fits the file, which may have been cut or replaced."""
    with path.open("rb") as file:
        file.seek(max(offset - 1, 0))
        return offset == 0 or file.read(1) == b"\n"
