"""However the training process is ended, and whenever, no event is lost, and it does not linger."""

from __future__ import annotations

import signal

import pytest

from tests.faults import _proxy
from tests.faults._child import Child
from tests.faults._life import DEADLINE_S

pytestmark = pytest.mark.real

TERMINATED = 128 + signal.SIGTERM
LONG_S = 60
EXIT_S = 3.0  # what Python takes to end with torch and mlflow, on a busy machine
REPORT_S = 2.0  # what the run's report takes there, most of it for matplotlib to be imported


@pytest.fixture
def child(proxy, tmp_path):
    """A process that records to MLflow through the callback."""
    with Child(tmp_path / "rldk", "mlflow", module="tests.faults._by_hand") as child:
        yield child


def status(path):
    """How the run ended, says its tracker."""
    import mlflow

    from rldk.cursor import CursorFile

    return mlflow.get_run(CursorFile(path, "mlflow").load().tracker_run).info.status


def test_killed(child, made_whole):
    """SIGKILL: what was logged is in the journal, and sync sends it."""
    child.log(50)
    child.signal(signal.SIGKILL)
    assert child.gone() == -signal.SIGKILL
    made_whole(child, "mlflow")
    assert status(child.path) == "KILLED"


def test_terminated(child, made_whole):
    """SIGTERM: all is delivered, and the run is ended."""
    child.log(50)
    child.arrive()
    child.log(50)
    child.signal(signal.SIGTERM)
    assert child.gone() == TERMINATED
    child.hear_reports()
    assert (child.reports[0].waiting, child.reports[0].is_closed) == (0, True)
    made_whole(child, deadline_s=EXIT_S + REPORT_S)
    assert status(child.path) == "KILLED"


def test_terminated_while_the_tracker_hangs(child, proxy, made_whole):
    """SIGTERM: the process is gone in RLDK_TERM_DEADLINE_S."""
    proxy.fault(_proxy.hangs)
    child.log(50)
    child.signal(signal.SIGTERM)
    assert child.gone() == TERMINATED
    child.hear_reports()
    assert child.reports[0].waiting > 0
    proxy.heal()
    made_whole(child, deadline_s=DEADLINE_S + EXIT_S + REPORT_S)


@pytest.fixture
def patient(monkeypatch):
    """Deliveries have a minute for the end."""
    monkeypatch.setenv("RLDK_CLOSE_DEADLINE_S", str(LONG_S))
    monkeypatch.setenv("RLDK_TERM_DEADLINE_S", str(LONG_S))


@pytest.mark.parametrize("first", ["SIGTERM", "the end of training"])
def test_terminated_while_it_waits(proxy, patient, child, made_whole, first):
    """SIGTERM, or the second one, ends the waiting for a tracker at once."""
    proxy.fault(_proxy.hangs)
    child.log(50)
    if first == "SIGTERM":
        child.signal(signal.SIGTERM)
    else:
        child.say("end")
    child.await_report()
    child.signal(signal.SIGTERM)
    assert child.gone() == TERMINATED
    assert child.end_s < EXIT_S
    child.hear_reports()
    proxy.heal()
    made_whole(child, deadline_s=DEADLINE_S + EXIT_S)


def test_interrupted_while_it_waits(proxy, patient, child, made_whole):
    """Ctrl-C in the final delivery ends the waiting at once."""
    proxy.fault(_proxy.hangs)
    child.log(50)
    child.say("end")
    child.await_report()
    child.signal(signal.SIGINT)
    assert child.gone() in {1, -signal.SIGINT}  # Python knows both
    assert "KeyboardInterrupt" in child.read_errors()
    assert child.end_s < EXIT_S
    proxy.heal()
    made_whole(child, "mlflow", deadline_s=DEADLINE_S + EXIT_S)


def test_failed(child, made_whole):
    """An exception that nobody catches: all is delivered, as of a run that failed."""
    child.log(50)
    child.arrive()
    child.say("fail")
    assert child.gone() == 1
    made_whole(child, "mlflow", deadline_s=EXIT_S + REPORT_S)
    assert status(child.path) == "FAILED"
