"""A clock that steps back costs no event: times in a journal only grow, and trackers hold each event once."""

from __future__ import annotations

import pytest

from rldk.testing import ManualClock, MemorySink
from rldk_mlflow.sink import MLflowSink
from tests.faults._life import Life, events_of, is_complete

HOUR_S = 3600.0


class SteppedClock(ManualClock):
    """A clock whose time of day is set back while its count of seconds goes on."""

    def log(self, run, count):
        """Log, a second each."""
        for _ in range(count):
            self.advance(1.0)
            run.log()


def times(path):
    """The times in the journal."""
    return [event.time for event in events_of(path)]


def test_within_a_segment_the_time_goes_on(tmp_path):
    """Whoever sets the clock back in mid-run is not noticed."""
    clock, sink = SteppedClock(), MemorySink()
    run = Life(tmp_path, [sink], clock=clock)
    clock.log(run, 5)
    clock.epoch -= HOUR_S
    clock.log(run, 5)
    run.end()
    assert is_complete(run.path, run.logged)
    assert times(run.path)[10] - times(run.path)[0] == 10.0
    assert [event.time for event in sink.received] == times(run.path)


@pytest.mark.parametrize("back_s", [1.0, HOUR_S])
def test_a_segment_that_begins_earlier_than_the_last_one_ended(tmp_path, back_s):
    """A resumed run's times go on from the last one, until the clock has caught up."""
    clock, received = SteppedClock(), []
    for count in (10, 5, 5):
        sink = MemorySink()
        run = Life(tmp_path, [sink], clock=clock)
        clock.log(run, count)
        run.end()
        received += sink.received
        clock.epoch -= back_s
    assert is_complete(run.path, run.logged)
    assert [event.time for event in received] == times(run.path)


@pytest.mark.real
@pytest.mark.parametrize("is_down", [False, True])
def test_a_tracker_holds_each_event_once(proxy, tmp_path, made_whole, is_down):
    """Also where the first segment waits for the second to deliver it."""
    clock = SteppedClock()
    if is_down:
        proxy.down()
    run = Life(tmp_path, [MLflowSink.create()], clock=clock)
    clock.log(run, 10)
    run.end()
    proxy.up()
    clock.epoch -= HOUR_S
    run = Life(tmp_path, [MLflowSink.create()], clock=clock)
    clock.log(run, 10)
    run.end()
    made_whole(run)


@pytest.mark.real
@pytest.mark.usefixtures("wandb_offline")
def test_wandb_holds_each_event_once(tmp_path, made_whole):
    """Rows of the second segment carry times from before the first one's fragment was begun."""
    from rldk_wandb.sink import WandbSink

    clock = SteppedClock()
    for _ in range(2):
        run = Life(tmp_path / "rldk", [WandbSink.create()], clock=clock)
        clock.log(run, 10)
        run.arrive()
        run.end()
        clock.epoch -= HOUR_S
    made_whole(run)
