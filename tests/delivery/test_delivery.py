"""A journal reaches its tracker whole and in order, and a failing tracker costs nobody anything."""

from __future__ import annotations

import logging
import threading
import time

import msgspec
import pytest

from rldk.cursor import CursorFile
from rldk.delivery import Delivery, finish_all
from rldk.errors import SinkBusyError, SinkClosedError, SinkLostError, SinkRejectedError
from rldk.journal import Journal, last_event
from rldk.settings import Settings
from rldk.testing import MemorySink

BEGAN = 1_763_847_500.0
FAST = Settings(linger_s=0.0, retry_first_s=0.001, retry_most_s=0.01)


@pytest.fixture
def path(tmp_path):
    """Where the journal is."""
    return tmp_path / "r_events.jsonl"


@pytest.fixture
def append(path, make_event):
    """Append events of the given steps; each step is also the seq."""

    def write(*steps):
        with Journal(path) as journal:
            for step in steps:
                journal.append(make_event(seq=step, step=step, time=BEGAN + step, metrics={"loss": 0.5}))

    return write


def deliver(path, sink, make_event, *, settings=FAST, run_seq=0, start=0, deadline_s=30.0):
    """Run one delivery from start to end."""
    delivery = Delivery(
        path, sink, run=make_event(seq=run_seq, time=BEGAN + run_seq), start=start, settings=settings
    )
    delivery.start()
    delivery.wake(last_event(path).seq)
    return finish_all([delivery], "FINISHED", [path], deadline_s)[0]


def steps(sink):
    """Steps that the sink accepted."""
    return [event.step for event in sink.received]


def test_every_event_arrives_once_and_in_order(path, append, make_event):
    """Batches do not change the order, and the files come last."""
    append(*range(10))
    sink = MemorySink()
    report = deliver(path, sink, make_event, settings=Settings(batch_events=3, linger_s=0))
    assert steps(sink) == list(range(10))
    assert (report.delivered, report.rejected, report.waiting, report.is_closed) == (10, 0, 0, True)
    assert sink.closed_with == ("FINISHED", [path])


def test_what_is_appended_meanwhile_is_delivered(path, append, make_event):
    """Wake tells a waiting delivery of new lines."""
    append(0)
    sink = MemorySink()
    delivery = Delivery(path, sink, run=make_event(time=BEGAN), start=0, settings=FAST)
    delivery.start()
    append(1, 2)
    delivery.wake(2)
    finish_all([delivery], "FINISHED", [], 30)
    assert steps(sink) == [0, 1, 2]


@pytest.mark.parametrize("when", ["open", "send", "close"])
def test_a_failure_is_tried_again(path, append, make_event, when):
    """Whatever a tracker raises, and whenever, nothing is lost or repeated."""
    append(0, 1, 2)
    sink = _FailingOnce(when)
    report = deliver(path, sink, make_event)
    assert steps(sink) == [0, 1, 2]
    assert (report.waiting, report.failures) == (0, 1)
    assert sink.closed_with is not None


class _FailingOnce(MemorySink):
    """Fails the first call of one of its methods."""

    def __init__(self, when):
        super().__init__()
        self.fails = {when}

    def _fail_once(self, what):
        if what in self.fails:
            self.fails.remove(what)
            raise ConnectionError(what)

    def open(self, run):
        """Fail, or open."""
        self._fail_once("open")
        return super().open(run)

    def send(self, events):
        """Fail, or send."""
        self._fail_once("send")
        super().send(events)

    def close(self, status, artifacts, *, is_exit):
        """Fail, or close."""
        self._fail_once("close")
        super().close(status, artifacts, is_exit=is_exit)


def test_a_refused_event_holds_up_no_other(path, append, make_event, caplog):
    """It is counted with its reason, and the rest of its batch arrives."""
    append(*range(5))
    sink = MemorySink()
    sink.refuses[3] = SinkRejectedError("bad name")
    report = deliver(path, sink, make_event)
    assert steps(sink) == [0, 1, 2, 4]
    assert (report.delivered, report.rejected, report.waiting) == (4, 1, 0)
    assert report.reasons == ("event 3 (step 3): bad name",)
    assert "refused event 3" in caplog.text


def test_a_run_that_was_closed_ends_the_delivery_with_its_reason(path, append, make_event):
    """What a deleted or finished tracker run does not take waits in the journal."""
    append(0, 1)
    sink = MemorySink()
    sink.faults = [SinkClosedError("the run was deleted")]
    report = deliver(path, sink, make_event)
    assert (report.delivered, report.waiting, report.reasons) == (0, 2, ("the run was deleted",))


def test_a_hanging_tracker_costs_no_more_than_the_deadline(path, append, make_event):
    """The end of training does not wait for a tracker that never answers."""
    append(0, 1, 2)
    sink = MemorySink()
    sink.hold.clear()
    begin = time.monotonic()
    report = deliver(path, sink, make_event, deadline_s=0.2)
    assert time.monotonic() - begin < 5
    assert (report.delivered, report.waiting) == (0, 3)
    sink.hold.set()


def test_a_dead_tracker_is_said_once_and_what_waits_is_counted(path, append, make_event, caplog):
    """The log is not flooded while the tracker is down."""
    append(0, 1, 2)
    sink = MemorySink()
    sink.faults = [ConnectionError("refused")] * 10_000
    with caplog.at_level(logging.WARNING):
        report = deliver(path, sink, make_event, deadline_s=0.3)
    assert len([r for r in caplog.records if "trying again" in r.message]) == 1
    assert (report.waiting, report.is_closed) == (3, False)
    assert "memory is incomplete" in caplog.text
    assert report.reasons == ("open failed: ConnectionError: refused",)


def test_a_server_that_is_not_there_is_told_in_a_few_words(path, append, make_event):
    """Of the layers that a client wraps around a refused connection, the server and the reason are left."""
    append(0)
    sink, layers = (
        MemorySink(),
        RuntimeError("request to http://127.0.0.1:9/api/create failed with Pool(...)"),
    )
    layers.__cause__ = ConnectionRefusedError(111, "Connection refused")
    sink.faults = [layers] * 10_000
    report = deliver(path, sink, make_event, deadline_s=0.1)
    assert report.reasons == ("open failed: http://127.0.0.1:9 cannot be reached: Connection refused",)


def test_a_next_start_goes_on_where_the_last_one_ended(path, append, make_event):
    """The saved cursor keeps what was accepted from being sent again."""
    append(0, 1)
    deliver(path, MemorySink(), make_event)
    append(2, 3)
    second = MemorySink()
    deliver(path, second, make_event, run_seq=2)
    assert steps(second) == [2, 3]


def test_what_waited_is_delivered_by_a_next_start(path, append, make_event):
    """A tracker that was down during one segment gets it with the next one."""
    append(0, 1)
    down = MemorySink()
    down.faults = [ConnectionError("refused")] * 10_000
    deliver(path, down, make_event, deadline_s=0.1)
    start = path.stat().st_size
    append(2)
    up = MemorySink()
    deliver(path, up, make_event, run_seq=2, start=start)
    assert steps(up) == [0, 1, 2]


def test_what_arrived_before_is_not_counted_as_waiting(path, append, make_event):
    """A tracker that is down at a resume lacks only what came since."""
    append(0, 1, 2)
    deliver(path, MemorySink(), make_event)
    append(3)
    down = MemorySink()
    down.faults = [ConnectionError("refused")] * 10_000
    assert deliver(path, down, make_event, run_seq=3, deadline_s=0.1).waiting == 1


def test_another_tracker_run_gets_its_own_segment(path, append, make_event):
    """Where a resumed run has a new tracker run, that one continues from there."""
    append(0, 1)
    deliver(path, MemorySink("first"), make_event)
    start = path.stat().st_size
    append(2, 3)
    other = MemorySink("second")
    deliver(path, other, make_event, run_seq=2, start=start)
    assert steps(other) == [2, 3]


def test_a_journal_that_was_cut_goes_on_being_delivered(path, append, make_event):
    """Whatever its new lines are numbered, they arrive, and nothing that had arrived does so again."""
    append(*range(6))
    deliver(path, MemorySink(), make_event)
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:3]))
    with Journal(path) as journal:
        for seq in range(3, 8):
            journal.append(make_event(seq=seq, step=seq, time=BEGAN + 100 + seq))
    again = MemorySink()
    report = deliver(path, again, make_event, run_seq=3)
    assert (steps(again), report.waiting) == ([3, 4, 5, 6, 7], 0)


def test_a_tracker_that_lost_what_it_accepted_gets_it_again(path, append, make_event):
    """What the tracker holds decides, and not what was noted; the replay is counted."""
    append(*range(6))
    deliver(path, MemorySink(), make_event)

    class Forgetful(MemorySink):
        """Holds no more than the first three events."""

        def settle(self, receipt):
            """Tell what is held."""
            assert receipt.at == BEGAN + 5
            return BEGAN + 2

    again = Forgetful()
    append(6)
    report = deliver(path, again, make_event, run_seq=6)
    assert (steps(again), report.replayed, report.delivered) == ([3, 4, 5, 6], 3, 1)


def test_a_tracker_that_holds_more_than_was_noted_gets_nothing_twice(path, append, make_event):
    """A crash between the tracker's yes and the cursor's move costs no repetition."""
    append(*range(6))

    class Ahead(MemorySink):
        """Holds four events of which the cursor does not know."""

        def settle(self, receipt):
            """Tell what is held."""
            return BEGAN + 3

    sink = Ahead()
    deliver(path, sink, make_event)
    assert steps(sink) == [4, 5]


def test_a_lost_connection_is_opened_anew(path, append, make_event):
    """A sink that says so is opened again, asked what the tracker holds, and goes on from there."""
    append(*range(4))

    class Dying(MemorySink):
        """Accepts one batch, then loses its connection, and a part of the batch with it."""

        is_alive = True

        def settle(self, receipt):
            """Tell what is held."""
            return self.received[-1].time if self.received else 0.0

        def send(self, events):
            """Accept, or die."""
            if self.is_alive and self.received:
                self.is_alive = False
                self.received.pop()
                raise SinkLostError("the tracker's process died")
            super().send(events)

    sink = Dying()
    report = deliver(path, sink, make_event, settings=msgspec.structs.replace(FAST, batch_events=2))
    assert steps(sink) == [0, 1, 2, 3]
    assert (report.delivered, report.replayed, report.failures) == (4, 1, 1)


def test_a_tracker_is_left_alone_for_as_long_as_it_asks(path, append, make_event):
    """Retry-After goes before the usual pause."""
    append(0)
    tries = []

    class Busy(MemorySink):
        """Asks once for a pause."""

        def send(self, events):
            """Note the time; accept at the second try."""
            tries.append(time.monotonic())
            if len(tries) == 1:
                raise SinkBusyError("429", retry_after_s=0.3)
            super().send(events)

    delivery = Delivery(path, Busy(), run=make_event(time=BEGAN), start=0, settings=FAST)
    delivery.start()
    while delivery.report().delivered < 1:
        time.sleep(0.01)
    finish_all([delivery], "FINISHED", [], 30)
    assert tries[1] - tries[0] >= 0.3


def test_two_processes_do_not_deliver_one_journal_to_one_tracker(path, append, make_event):
    """The second waits until the first has ended, and then goes on behind it."""
    append(0, 1)
    with_lock = CursorFile(path, "memory")
    with_lock.take()
    sink = MemorySink()
    report = deliver(path, sink, make_event, deadline_s=0.2)
    assert (steps(sink), report.waiting) == ([], 2)
    assert "another process delivers it" in str(report.reasons)
    with_lock.release()
    assert deliver(path, sink, make_event).waiting == 0
    assert steps(sink) == [0, 1]


def test_a_hurry_ends_the_waiting_at_once(path, append, make_event):
    """A second signal is honoured however long the deadline is."""
    append(0)
    sink = MemorySink()
    sink.hold.clear()
    delivery = Delivery(path, sink, run=make_event(time=BEGAN), start=0, settings=FAST)
    delivery.start()
    hurry = threading.Event()
    threading.Timer(0.2, hurry.set).start()
    begin = time.monotonic()
    (report,) = finish_all([delivery], "KILLED", [], 60, hurry=hurry)
    assert time.monotonic() - begin < 10
    assert report.is_closed is False
    sink.hold.set()


def test_what_waits_is_named_with_the_command_that_delivers_it(path, append, make_event, caplog):
    """Nobody has to search for the way out."""
    append(0)
    sink = MemorySink()
    sink.hold.clear()
    deliver(path, sink, make_event, deadline_s=0.1)
    assert f"rldk sync {path} --to memory" in caplog.text
    sink.hold.set()


def test_a_batch_is_bounded_in_bytes_too(path, make_event):
    """The event with which a batch reaches the limit is its last."""
    with Journal(path) as journal:
        for seq in range(4):
            notes = ["x" * (5000 if seq == 2 else 10)]
            journal.append(make_event(seq=seq, step=seq, time=BEGAN + seq, notes=notes))
    sizes = []

    class Counting(MemorySink):
        """Remembers what each request carried."""

        def send(self, events):
            """Count, then accept."""
            sizes.append([event.seq for event in events])
            super().send(events)

    deliver(path, Counting(), make_event, settings=Settings(batch_bytes=1000, linger_s=0))
    assert sizes == [[0, 1, 2], [3]]


def test_another_journal_of_the_same_name_is_delivered_whole(path, append, make_event):
    """A cursor is of one journal: where the file is a new one, nothing of it is taken for delivered."""
    append(*range(6))
    deliver(path, MemorySink(), make_event)
    path.unlink()
    with Journal(path) as journal:
        for seq in range(3):
            journal.append(make_event(seq=seq, step=seq, time=BEGAN + 99 + seq))
    again = MemorySink()
    report = deliver(path, again, make_event)
    assert (steps(again), report.waiting) == ([0, 1, 2], 0)


def test_a_journal_that_is_gone_is_not_taken_for_delivered(path, append, make_event):
    """What cannot be read any more is counted as waiting, and the reason is told."""
    append(0, 1, 2)
    sink = MemorySink()
    sink.hold.clear()
    delivery = Delivery(path, sink, run=make_event(seq=0, time=BEGAN), start=0, settings=FAST)
    delivery.start()
    delivery.wake(2)
    path.unlink()
    sink.hold.set()
    (report,) = finish_all([delivery], "FINISHED", [], 0.3)
    assert (report.delivered, report.waiting, report.is_closed) == (0, 3, False)
    assert "No such file" in str(report.reasons)


def test_a_broken_cursor_is_as_none(path, append, make_event):
    """Garbage in the cursor file does not stop the delivery."""
    append(0, 1)
    CursorFile(path, "memory").path.write_text("{broken")
    sink = MemorySink()
    deliver(path, sink, make_event)
    assert steps(sink) == [0, 1]


def test_secrets_in_a_trackers_error_are_not_repeated(path, append, make_event, caplog):
    """A password in a URL reaches neither the log nor the report."""
    append(0)
    sink = MemorySink()
    sink.faults = [ConnectionError("https://me:hunter2@mlflow.example refused")]
    report = deliver(path, sink, make_event)
    assert "hunter2" not in caplog.text + str(report)


def test_memory_is_bounded_by_a_batch(path, append, make_event):
    """However much waits, no request carries more than a batch."""
    append(*range(50))
    sizes = []

    class Counting(MemorySink):
        """Remembers how much each request carried."""

        def send(self, events):
            """Count, then accept."""
            sizes.append(len(events))
            super().send(events)

    deliver(path, Counting(), make_event, settings=Settings(batch_events=20, linger_s=0))
    assert sizes == [20, 20, 10]


def test_delivery_happens_on_a_thread_of_its_own(path, append, make_event):
    """The trainer's thread never talks to a tracker."""
    append(0)
    threads = set()

    class Noting(MemorySink):
        """Remembers who called."""

        def _may_fail(self):
            threads.add(threading.current_thread().name)

    deliver(path, Noting(), make_event)
    assert threads == {"rldk-memory"}
