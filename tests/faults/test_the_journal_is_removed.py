"""A journal's folder that is removed in mid-run costs no event."""

from __future__ import annotations

import shutil
import time

import pytest

from rldk_mlflow.sink import MLflowSink
from tests.faults._life import Life

pytestmark = pytest.mark.real


def remove(run):
    """Remove the journal's folder, and log until it is back: now and then the journal looks."""
    shutil.rmtree(run.path.parent)
    run.log(20)
    while not run.path.exists():
        time.sleep(0.05)
        run.log()


def test_removed_in_mid_run(proxy, tmp_path, made_whole):
    """The journal is put back, and the tracker gets all of it once."""
    run = Life(tmp_path / "rldk", [MLflowSink.create()])
    run.log(20)
    run.arrive()
    remove(run)
    run.arrive()
    report = run.end()
    made_whole(run)
    assert (report.waiting, report.is_closed) == (0, True)


def test_removed_while_the_tracker_is_down(proxy, tmp_path, made_whole):
    """What waits in the journal is put back with it."""
    proxy.down()
    run = Life(tmp_path / "rldk", [MLflowSink.create()])
    run.log(20)
    run.await_failure()
    remove(run)
    run.end()
    proxy.up()
    made_whole(run)


def test_removed_just_before_the_end(proxy, tmp_path, made_whole):
    """The event that tells of the end puts it back."""
    run = Life(tmp_path / "rldk", [MLflowSink.create()])
    run.log(20)
    run.arrive()
    shutil.rmtree(run.path.parent)
    run.end()
    made_whole(run)


@pytest.mark.usefixtures("wandb_offline")
def test_removed_while_wandb_is_at_it(tmp_path, made_whole):
    """W&B appends, and yet nothing is there twice."""
    from rldk_wandb.sink import WandbSink

    run = Life(tmp_path / "rldk", [WandbSink.create()])
    run.log(20)
    run.arrive()
    remove(run)
    run.arrive()
    run.end()
    made_whole(run)
