"""The sink writes to the user's active MLflow run, else to one of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")


def status(run_id: str) -> str:
    """The status that MLflow shows."""
    return str(mlflow.MlflowClient().get_run(run_id).info.status)


def test_without_an_active_run_there_is_nothing_to_attach_to() -> None:
    """Attach gives None, and starts nothing."""
    assert MLflowSink.attach() is None


def test_a_run_of_another_thread_is_not_ours_to_take() -> None:
    """MLflow's active run belongs to a thread; attach looks in its own only."""
    found: list[object] = []
    with mlflow.start_run():
        thread = threading.Thread(target=lambda: found.append(MLflowSink.attach()))
        thread.start()
        thread.join()
    assert found == [None]


def test_an_attached_run_receives_the_events_and_stays_open(run: Event, event: Callable[..., Event]) -> None:
    """The user's run gets metrics and tags; its status is the user's affair."""
    with mlflow.start_run() as active:
        sink = MLflowSink.attach()
        assert sink is not None
        home = sink.open(run)
        sink.send([event(1, step=1, metrics={"loss": 1.0})])
        sink.close("FAILED", [])
        there = mlflow.MlflowClient().get_run(active.info.run_id)
        assert home.run_id == active.info.run_id
        assert (there.info.status, there.data.metrics["rldk/loss"]) == ("RUNNING", 1.0)
        assert there.data.tags["rldk.run_id"] == run.run_id


@pytest.mark.parametrize("ended", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_of_its_own_is_ended(run: Event, event: Callable[..., Event], ended: str) -> None:
    """The status is the one told, and the times are those of the events."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(60, step=1, metrics={"loss": 1.0})])
    sink.close(ended, [])
    info = mlflow.MlflowClient().get_run(home.run_id).info
    assert (info.status, info.run_name) == (ended, run.run_id)
    assert info.end_time - info.start_time == 60_000


def test_two_opens_give_one_run(run: Event) -> None:
    """A create whose answer was lost is found again by its tag."""
    homes = {MLflowSink.create().open(run).run_id for _ in range(2)}
    assert len(homes) == 1


def test_a_resumed_run_runs_again(run: Event) -> None:
    """A run that the sink ended is RUNNING once it goes on."""
    sink = MLflowSink.create()
    sink.open(run)
    sink.close("KILLED", [])
    home = MLflowSink.create().open(run)
    assert status(home.run_id) == "RUNNING"


def test_a_users_run_that_is_synced_later_keeps_its_status(run: Event) -> None:
    """A run that was found, but that someone else had opened, is not ended twice."""
    with mlflow.start_run():
        attached = MLflowSink.attach()
        assert attached is not None
        attached.open(run)
    later = MLflowSink.create()
    home = later.open(run)
    later.close("FAILED", [])
    assert (home.run_id, status(home.run_id)) == (attached.tracker_run_id, "FINISHED")


def test_the_run_goes_where_mlflow_would_put_it(run: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured experiment is honoured, and made where it is missing."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "alignment")
    home = MLflowSink.create().open(run)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment(client.get_run(home.run_id).info.experiment_id)
    assert experiment.name == "alignment"


def test_a_sink_that_never_opened_closes_in_peace() -> None:
    """Close after a failed open does nothing."""
    sink = MLflowSink.create()
    sink.close("FAILED", [])
    assert sink.tracker_run_id is None
