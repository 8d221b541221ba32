"""Whatever an MLflow server answers, and whenever, training ends in time and no event is lost."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from rldk_mlflow.sink import MLflowSink
from tests.faults import _proxy
from tests.faults._life import Life

pytestmark = pytest.mark.real

FAULTS = {
    "429": _proxy.answers(429, Retry_After="1"),
    "500": _proxy.answers(500),
    "502": _proxy.answers(502, b"<html>Bad Gateway</html>"),
    "garbage": _proxy.garbage,
    "half an answer": _proxy.half,
    "answer lost": _proxy.lost,
    "reset": _proxy.resets,
    "hang": _proxy.hangs,
}
SLOW = {"slow": _proxy.slow(0.4)}


@pytest.fixture
def life(proxy, tmp_path):
    """A run that writes to MLflow; the proxy is faultless when it begins."""
    return lambda: Life(tmp_path / "rldk", [MLflowSink.create()])


@pytest.mark.parametrize("fault", ["429", "500", "garbage", "answer lost", "hang"])
def test_at_init_for_ever(life, proxy, made_whole, fault):
    """The run is not opened; all waits."""
    proxy.fault(FAULTS[fault])
    run = life()
    run.log(20)
    report = run.end()
    proxy.heal()
    made_whole(run)
    assert report.home is None
    assert report.waiting == 22


@pytest.mark.parametrize("fault", FAULTS | SLOW)
def test_at_init_for_a_while(life, proxy, made_whole, fault):
    """The run is opened when it is over, once."""
    proxy.fault((FAULTS | SLOW)[fault], times=2)
    run = life()
    run.log(20)
    run.arrive()
    report = run.end()
    made_whole(run)
    assert (report.delivered, report.waiting, report.is_closed) == (22, 0, True)


@pytest.mark.parametrize("fault", ["429", "500", "answer lost", "hang"])
def test_at_log_for_ever(life, proxy, made_whole, fault):
    """What was sent before is there; the rest waits."""
    run = life()
    run.log(10)
    run.arrive()
    proxy.fault(FAULTS[fault], "runs/log-batch")
    run.log(10)
    run.await_failure()
    report = run.end()
    proxy.heal()
    made_whole(run)
    assert (report.delivered, report.waiting, report.is_closed) == (11, 11, False)


@pytest.mark.parametrize("fault", FAULTS | SLOW)
def test_at_log_for_a_while(life, proxy, made_whole, fault):
    """All is there at the end, once."""
    run = life()
    run.arrive()
    proxy.fault((FAULTS | SLOW)[fault], "runs/log-batch", times=2)
    run.log(20)
    run.arrive()
    report = run.end()
    made_whole(run)
    assert proxy.hit
    assert (report.delivered, report.waiting, report.is_closed) == (22, 0, True)


@pytest.mark.parametrize("fault", ["500", "half an answer", "answer lost", "hang"])
@pytest.mark.parametrize("path", ["runs/update", "mlflow-artifacts"], ids=["end", "files"])
def test_at_finish_for_ever(life, proxy, made_whole, fault, path):
    """Only the end, or the files, are missing."""
    run = life()
    run.log(20)
    run.arrive()
    proxy.fault(FAULTS[fault], path)
    report = run.end()
    proxy.heal()
    made_whole(run)
    assert (report.delivered, report.waiting, report.is_closed) == (22, 0, False)


def test_a_pause_that_is_asked_for_is_kept(life, proxy, made_whole):
    """After 429 with Retry-After: 1 nothing is asked for a second."""
    run = life()
    run.arrive()
    times = []

    def busy(asked):
        times.append(time.monotonic())
        FAULTS["429"](asked)

    proxy.fault(busy, "runs/log-batch", times=3)
    run.log(5)
    run.arrive()
    run.end()
    made_whole(run)
    assert min(after - before for before, after in pairwise(times)) >= 1


def test_a_lost_answer_to_the_creation_makes_no_second_run(life, proxy, made_whole, tmp_path):
    """The run that was made is found."""
    import mlflow

    proxy.fault(_proxy.lost, "runs/create", times=1)
    run = life()
    run.log(5)
    report = run.end()
    made_whole(run)
    client = mlflow.MlflowClient()
    experiment = client.get_run(report.home.run_id).info.experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_at_init_for_a_while_with_an_experiment_id(life, proxy, monkeypatch):
    """An outage is no refusal, however the experiment is configured."""
    import mlflow

    name = mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.get_experiment_by_name(name).experiment_id)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    proxy.fault(FAULTS["500"], times=1)
    run = life()
    run.log(5)
    assert run.end().waiting == 0


def test_refused_for_the_whole_run(life, proxy, made_whole):
    """Nobody listens until the training is over."""
    proxy.down()
    run = life()
    run.log(20)
    report = run.end()
    proxy.heal()
    made_whole(run)
    assert (report.delivered, report.waiting) == (0, 22)


def test_refused_in_the_middle(life, proxy, made_whole):
    """Nobody listens for a while."""
    run = life()
    run.log(10)
    run.arrive()
    proxy.down()
    run.log(10)
    run.await_failure()
    proxy.heal()
    run.log(10)
    run.arrive()
    report = run.end()
    made_whole(run)
    assert (report.delivered, report.waiting, report.is_closed) == (32, 0, True)
