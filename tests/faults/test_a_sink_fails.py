"""Whatever a sink does, and whenever, training ends in time, and the next start delivers each event once."""

from __future__ import annotations

import pytest

from rldk.errors import SinkBusyError, SinkClosedError, SinkLostError, SinkRejectedError
from rldk.testing import MemorySink
from tests.faults._life import DEADLINE_S, SLACK_S, Life, is_complete

CALLS = ("open", "settle", "send", "close")
HOUR_S = 3600.0


class FaultySink(MemorySink):
    """A sink that raises in one of its calls, or hangs in it, for as long as it is told to."""

    def __init__(self, call, error=None, times=float("inf")):
        super().__init__()
        self.faulty, self.error, self.times = call, error, times

    def _fail(self, call):
        if call == self.faulty and self.times > 0:
            self.times -= 1
            if self.error is None:
                self.hold.wait(HOUR_S)
                raise ConnectionError(call)
            raise self.error

    def open(self, run):
        """Fail, or open."""
        self._fail("open")
        return super().open(run)

    def settle(self, receipt):
        """Fail, or believe what was noted."""
        self._fail("settle")
        return super().settle(receipt)

    def send(self, events):
        """Fail, or keep."""
        self._fail("send")
        super().send(events)

    def close(self, status, artifacts, *, is_exit=False):
        """Fail, or end."""
        self._fail("close")
        super().close(status, artifacts, is_exit=is_exit)


@pytest.fixture
def lived(tmp_path, tell):
    """Live with a faulty sink to the end, and then once more with a healthy one."""

    def live(sink):
        run = Life(tmp_path, [sink])
        run.log(10)
        report = run.end()
        assert run.end_s < DEADLINE_S + SLACK_S
        sink.hold.set()
        healthy = MemorySink()
        again = Life(tmp_path, [healthy])
        again.log(5)
        last = again.end()
        received = [event.seq for event in sink.received + healthy.received]
        lost = set(range(19)) - set(received)
        tell(report, run.end_s, {"missing": len(lost), "repeated": len(received) - len(set(received))})
        assert is_complete(run.path, again.logged)
        assert sorted(received) == list(range(19))
        assert (last.waiting, last.is_closed) == (0, True)
        return report

    return live


@pytest.mark.parametrize("call", CALLS)
def test_a_sink_that_raises_for_ever(lived, call):
    """It is tried again until the deadline."""
    report = lived(FaultySink(call, ConnectionError("down")))
    assert report.waiting == (0 if call == "close" else 12)
    assert report.failures > 1


@pytest.mark.parametrize("call", CALLS)
def test_a_sink_that_raises_for_a_while(lived, call):
    """It gets all when it recovers."""
    report = lived(FaultySink(call, RuntimeError("once, twice"), times=2))
    assert (report.delivered, report.waiting, report.failures, report.is_closed) == (12, 0, 2, True)


@pytest.mark.parametrize("call", CALLS)
def test_a_sink_that_hangs_for_an_hour(lived, call):
    """It costs the deadline, once."""
    sink = FaultySink(call)
    sink.hold.clear()
    sink._may_fail = lambda: None
    report = lived(sink)
    assert report.waiting == (0 if call == "close" else 12)
    assert not report.is_closed


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error", [SinkClosedError("c"), SinkLostError("l"), SinkBusyError("b", 60.0)], ids=type
)
def test_a_sink_that_speaks_the_contract(lived, call, error):
    """A run that is closed, lost or busy for ever leaves all in the journal."""
    assert lived(FaultySink(call, error)).waiting == (0 if call == "close" else 12)


def test_a_sink_that_loses_its_run_for_a_while(lived):
    """It is opened anew, and gets all."""
    report = lived(FaultySink("send", SinkLostError("dead"), times=3))
    assert (report.delivered, report.waiting, report.is_closed) == (12, 0, True)


@pytest.mark.parametrize("call", ["open", "settle", "close"])
def test_a_sink_that_refuses_the_run(lived, call):
    """Nothing is taken for delivered."""
    assert lived(FaultySink(call, SinkRejectedError("no"))).waiting == (0 if call == "close" else 12)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("call", CALLS)
def test_a_sink_that_calls_exit(lived, call):
    """A tracker that calls sys.exit ends neither the training nor the journal."""
    report = lived(FaultySink(call, SystemExit(3)))
    assert report.waiting == (0 if call == "close" else 12)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("call", CALLS)
def test_a_sink_that_calls_exit_is_told(lived, call):
    """The report says why the delivery has stopped, or it has gone on."""
    report = lived(FaultySink(call, SystemExit(3), times=1))
    assert report.is_closed or report.reasons


def test_a_delivery_that_waits_for_another_goes_on_where_that_one_got_to(tmp_path):
    """What an abandoned delivery still hands over is not sent again by the next one."""
    late, next_one = MemorySink(), MemorySink()
    run = Life(tmp_path, [late])
    run.arrive()
    late.hold.clear()
    run.log(10)
    run.end()
    again = Life(tmp_path, [next_one])
    again.await_failure()
    late.hold.set()
    again.end()
    received = [event.seq for event in late.received + next_one.received]
    assert received == list(range(14))
