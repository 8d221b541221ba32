"""An error of somebody else's is named in a few words, however it is wrapped, and to name it ends."""

from __future__ import annotations

import errno

import pytest

from rldk.causes import in_short
from rldk.delivery import Delivery, finish_all
from rldk.journal import Journal
from rldk.settings import Settings
from rldk.testing import MemorySink

FAILED = "POST http://tracker:5000/api failed"
IN_SHORT = "http://tracker:5000 cannot be reached: Connection refused"


def wrapped(raise_around):
    """The error that a client raises around a refused connection."""
    try:
        try:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        except ConnectionError as inner:
            raise_around(inner)
    except (RuntimeError, ConnectionError) as error:
        return error


def with_cause(inner):
    """Say why."""
    raise RuntimeError(FAILED) from inner


def with_context(_):
    """Say nothing; Python does."""
    raise RuntimeError(FAILED)


def with_neither(_):
    """Say that it is of no interest."""
    raise RuntimeError(FAILED) from None


def in_circle(inner):
    """Unwrap it again, which makes each the other's reason."""
    try:
        with_cause(inner)
    except RuntimeError as wrapper:
        raise wrapper.__cause__  # noqa: B904  # how the circle comes about


@pytest.mark.parametrize(
    ("raise_around", "told"),
    [
        (with_cause, IN_SHORT),
        (with_context, IN_SHORT),
        (with_neither, f"RuntimeError: {FAILED}"),
        (in_circle, "ConnectionRefusedError: [Errno 111] Connection refused"),
    ],
)
@pytest.mark.timeout(20)
def test_the_reason_is_found_where_one_is_shown(raise_around, told):
    """As a traceback shows it: what a library hides with `from None` is not why."""
    assert in_short(wrapped(raise_around)) == told


@pytest.mark.timeout(20)
def test_a_circle_of_reasons_holds_no_delivery_up(tmp_path, make_event):
    """The next try delivers."""
    path, run = tmp_path / "r_events.jsonl", make_event(time=1.0)
    event = make_event(seq=1, time=2.0, metrics={"loss": 0.5})
    with Journal(path) as journal:
        journal.append(run)
        journal.append(event)
    sink = MemorySink()
    sink.faults = [wrapped(in_circle)]
    settings = Settings(linger_s=0.0, retry_first_s=0.001)
    delivery = Delivery(path, sink, run=run, start=0, settings=settings)
    delivery.start()
    delivery.wake(1)
    (report,) = finish_all([delivery], "FINISHED", [path], 5.0)
    assert ([each.seq for each in sink.received], report.is_closed) == ([0, 1], True)
