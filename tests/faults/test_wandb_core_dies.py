"""Whatever becomes of wandb-core, the training process ends in time and no event is lost."""

from __future__ import annotations

import psutil
import pytest

from rldk_wandb import fragments, own
from rldk_wandb.offline import WandbFile
from tests.faults._beside_a_run import OTHER_ID
from tests.faults._child import Child

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("wandb_offline")]


@pytest.fixture
def child(tmp_path):
    """A process that records to a W&B run of its own, offline."""
    with Child(tmp_path / "rldk", "wandb") as child:
        yield child


def test_wandb_core_killed_in_mid_run(child, made_whole):
    """The run is opened anew, and what the dead one had not written is sent again."""
    child.log(50)
    child.arrive()
    child.core().kill()
    child.log(50)
    child.arrive()
    report = child.end()
    made_whole(child)
    assert (report.delivered, report.waiting, report.is_closed) == (102, 0, True)


def test_wandb_core_killed_at_the_end(child, made_whole):
    """The same when the run is about to be closed."""
    child.log(50)
    child.arrive()
    child.core().kill()
    report = child.end()
    made_whole(child)
    assert (report.waiting, report.is_closed) == (0, True)


def test_wandb_core_killed_again_and_again(child, made_whole):
    """Each time it goes on where it was."""
    for _ in range(3):
        child.log(30)
        child.arrive()
        child.core().kill()
    child.log(30)
    child.arrive()
    report = child.end()
    made_whole(child)
    assert (report.delivered, report.waiting, report.is_closed) == (122, 0, True)


@pytest.mark.parametrize("more", [0, 1000])
def test_wandb_core_stopped(child, made_whole, more):
    """A wandb-core that takes nothing, while rows are sent or when the run is closed, costs the deadline.

    At exit wandb would wait for it for ever: it is ended by force.
    """
    child.log(10)
    child.arrive()
    core = child.core()
    core.suspend()
    child.log(more)
    child.end()
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE  # nobody has collected it yet
    made_whole(child)


@pytest.mark.parametrize("more", [0, 1000])
def test_wandb_core_stopped_and_gone_on(child, made_whole, more):
    """What it takes late is there once."""
    child.log(10)
    child.arrive()
    core = child.core()
    core.suspend()
    child.log(more)
    child.begin_to_end()
    core.resume()
    child.ended()
    made_whole(child)


@pytest.mark.parametrize("more", [0, 1000])
def test_wandb_core_stopped_that_serves_a_run_of_the_script(tmp_path, made_whole, more):
    """It is not ended by force: what the script has logged to a run of its own is still on the way."""
    with Child(tmp_path / "rldk", "wandb", module="tests.faults._beside_a_run") as child:
        child.log(10)
        child.arrive()
        core = child.core()
        core.suspend()
        child.log(more)
        child.begin_to_end()
        child.hear("leaving")
        psutil.wait_procs([core], timeout=3 * own._EXIT_GRACE_S)
        assert core.status() == psutil.STATUS_STOPPED
        core.resume()
        child.ended()
    [file] = fragments.of_run(tmp_path / "wandb", OTHER_ID)
    assert WandbFile(file).has_ended()
    assert [row["mine"] for row in WandbFile(file).rows()] == [1.0]
    made_whole(child, deadline_s=10.0)  # the script waits for its own run
