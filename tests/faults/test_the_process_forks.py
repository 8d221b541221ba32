"""A forked child of a training, such as a data loader's worker, costs no event and holds nobody up."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from rldk.journal import is_being_written
from tests.faults._child import Child

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("wandb_offline", "proxy")]

TRACKERS = ("mlflow", "wandb")


@pytest.fixture
def begin(tmp_path):
    """Start a process that records to both trackers; what it leaves behind is killed."""
    children, forked = [], []

    def start(*trackers):
        children.append(Child(tmp_path / "rldk", *trackers).__enter__())
        return children[-1]

    start.forked = forked
    yield start
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    for child in children:
        child.__exit__()


@pytest.mark.parametrize("how", ["orphan", "worker"])
def test_a_child_that_outlives_a_killed_training(begin, made_whole, how):
    """It has not written, holds no lock, and the resumed run goes on in its own journal."""
    run = begin(*TRACKERS)
    run.log(20)
    begin.forked.append(run.fork(how))
    run.log(20)
    run.signal(signal.SIGKILL)
    run.gone()
    assert psutil.pid_exists(begin.forked[0])
    assert not is_being_written(run.path)
    again = begin(*TRACKERS)
    again.logged = list(run.logged)
    again.log(20)
    again.arrive()
    again.end()
    made_whole(again)


def test_a_child_that_outlives_the_end(begin, made_whole):
    """The training ends in time beside it."""
    run = begin(*TRACKERS)
    run.log(20)
    begin.forked.append(run.fork("orphan"))
    run.log(20)
    run.arrive()
    assert run.end().waiting == 0
    assert psutil.pid_exists(begin.forked[0])
    made_whole(run)


def test_a_child_that_ends_by_itself(begin, made_whole):
    """Its exit ends neither the parent's run nor its trackers."""
    run = begin(*TRACKERS)
    run.log(20)
    run.arrive()
    assert run.fork("exit") == 0
    run.log(20)
    run.arrive()
    assert run.end().waiting == 0
    made_whole(run)
