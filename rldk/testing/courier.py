"""How does a run get into a tracker as it does in training: with a journal, in batches, through mishaps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, cast

import msgspec

from rldk import journal
from rldk.bridge import Target
from rldk.cursor import CursorFile
from rldk.delivery import Delivery
from rldk.errors import SinkLostError, SinkRejectedError
from rldk.journal import Journal
from rldk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rldk.bridge import Home, Receipt, Sink
    from rldk.delivery import DeliveryReport
    from rldk.event import Event

Mishap = Literal["none", "refused", "unanswered", "lost"]
"""What may befall a `send`: it fails and nothing is accepted; it fails although all was accepted; the
connection is lost although all was accepted."""

_PATIENCE_S: Final = 120.0
_MOST_FAILING_S: Final = 10.0
_GLANCE_S: Final = 0.2


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How the delivery of a run goes.

    Attributes:
        batch_events: Most events in a batch.
        mishaps: What befalls the first, the second, ... `send` of each delivery; nothing the later ones.
        is_late: Deliver the whole journal when the run is over, and not each segment while it is written.
        is_repeated: Deliver the whole journal once more at the end, with nothing noted of the first time.
    """

    batch_events: int = 200
    mishaps: tuple[Mishap, ...] = ()
    is_late: bool = False
    is_repeated: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether the sink is sent events again without being asked how much it holds."""
        return "unanswered" in self.mishaps


class UndeliveredError(AssertionError):
    """A sink did not take a run."""


def deliver(
    events: Sequence[Event],
    new_sink: Callable[[Target], Sink],
    path: Path,
    course: Course = Course(),  # noqa: B008  # it is immutable
) -> Home:
    """Write a run into a journal, and deliver it as training does: one sink for each segment.

    Args:
        events: The run; its first event, and the first one of each segment, is of kind `run`.
        new_sink: Makes the sink of a segment, as `Sink.create` does.
        path: The journal that is written; there must be none.
        course: How it goes.

    Returns:
        Where the tracker has it.

    Raises:
        UndeliveredError: The sink refused something, or did not end.
    """
    home = None if course.is_late else _in_time(events, new_sink, path, course)
    if course.is_late:
        with Journal(path) as written:
            for event in events:
                written.append(event)
    if home is None or course.is_repeated:
        CursorFile(path, new_sink(Target()).name).path.unlink(missing_ok=True)
        home = _ended(_begun(path, new_sink, events[0], 0, course), events)
    return home


def read_journal(path: Path) -> list[Event]:
    """Give the events of a journal."""
    return [entry.event for entry in journal.read(path) if entry.event is not None]


def _in_time(
    events: Sequence[Event], new_sink: Callable[[Target], Sink], path: Path, course: Course
) -> Home | None:
    home = None
    for segment in _segments(events):
        with Journal(path) as written:
            start = written.end
            written.append(segment[0])
            delivery = _begun(path, new_sink, segment[0], start, course)
            for event in segment[1:]:
                written.append(event)
                delivery.wake(event.seq)
        home = _ended(delivery, segment)
    return home


def _segments(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    starts = [place for place, event in enumerate(events) if event.kind == "run"]
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        yield events[start:end]


def _begun(
    path: Path, new_sink: Callable[[Target], Sink], run: Event, start: int, course: Course
) -> Delivery:
    saved = CursorFile(path, new_sink(Target()).name).load()
    sink = _Unlucky(new_sink(saved.target if saved else Target()), course.mishaps)
    settings = Settings(
        batch_events=course.batch_events, linger_s=0.0, retry_first_s=0.001, retry_most_s=0.01
    )
    delivery = Delivery(path, cast("Sink", sink), run=run, start=start, settings=settings)
    delivery.start()
    return delivery


def _ended(delivery: Delivery, segment: Sequence[Event]) -> Home:
    last = segment[-1]
    delivery.wake(last.seq)
    delivery.finish(last.model_info.get("status") if last.kind == "end" else None, [])
    patience = time.monotonic() + _PATIENCE_S
    while delivery.is_running() and delivery.failing_s() < _MOST_FAILING_S and time.monotonic() < patience:
        delivery.join(_GLANCE_S)
    delivery.abandon()
    return _arrived(delivery.report())


def _arrived(report: DeliveryReport) -> Home:
    if report.home is None or not report.is_closed or report.rejected or report.waiting:
        reasons = "; ".join(report.reasons) or f"no answer within {_PATIENCE_S:.0f} s"
        text = f"{report.tracker} refused {report.rejected} events, {report.waiting} wait: {reasons}"
        raise UndeliveredError(text)
    return report.home


class _Unlucky:
    """A sink to whose calls something happens."""

    def __init__(self, sink: Sink, mishaps: Sequence[Mishap]) -> None:
        self.name = sink.name
        self._sink = sink
        self._mishaps = list(mishaps)

    def open(self, run: Event) -> Home:
        home = self._sink.open(run)
        if self._sink.tracker_run_id != home.run_id:
            text = f"open gave run {home.run_id}, but tracker_run_id says {self._sink.tracker_run_id}"
            raise SinkRejectedError(text)
        return home

    def settle(self, receipt: Receipt | None) -> float:
        return self._sink.settle(receipt)

    def send(self, events: Sequence[Event]) -> None:
        mishap = self._mishaps.pop(0) if self._mishaps else "none"
        if mishap == "refused":
            raise ConnectionRefusedError("a mishap of the test: nothing was sent")
        self._sink.send(events)
        if mishap == "unanswered":
            raise TimeoutError("a mishap of the test: the answer was lost")
        if mishap == "lost":
            raise SinkLostError("a mishap of the test: the connection was lost")

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        self._sink.close(status, artifacts, is_exit=is_exit)
