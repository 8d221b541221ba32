"""A target decides which MLflow run the sink writes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk.bridge import Receipt, Target
from rldk.errors import SinkClosedError
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.event import Event


def experiment_of(run_id: str) -> str:
    """The name of the run's experiment."""
    client = mlflow.MlflowClient()
    return str(client.get_experiment(client.get_run(run_id).info.experiment_id).name)


@pytest.mark.usefixtures("mlflow_db")
def test_a_run_that_is_named_is_gone_on_with(run: Event, event: Callable[..., Event]) -> None:
    """Its metrics are there, and its status stays with whom it belongs to."""
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    sink = MLflowSink.create(Target(run_id=run_id))
    assert sink.tracker_run_id == run_id
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0})])
    sink.close("FINISHED", [])
    there = mlflow.MlflowClient().get_run(run_id)
    assert (home.run_id, there.info.status, there.data.metrics["rldk/loss"]) == (run_id, "RUNNING", 1.0)


def test_the_source_of_a_run_says_where_it_is(
    run: Event, mlflow_db: str, dead_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is gone on with although MLflow is configured to another place meanwhile."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_db)
    home = MLflowSink.create().open(run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_server)
    assert MLflowSink.create(Target(source=home.source)).open(run) == home
    assert MLflowSink.create(Target(source=home.source, run_id=home.run_id)).open(run) == home


def test_the_secrets_of_a_place_come_from_the_configuration(
    run: Event, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source holds none; the tracking URI that is configured for the same place does."""
    configured = mlflow_server.replace("://", "://user:secret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", configured)
    home = MLflowSink.create().open(run)
    sink = MLflowSink.create(Target(source=home.source))
    assert sink.open(run) == home
    assert sink._uri == configured


@pytest.mark.parametrize("source", ["wandb://a/b/c", "sqlite:////x.db#experiments/1", "http://host:5000"])
def test_a_source_that_is_no_run_is_refused(run: Event, mlflow_db: str, source: str) -> None:
    """The error says what one looks like, on the delivery thread and not in training."""
    assert mlflow_db
    sink = MLflowSink.create(Target(source=source))
    with pytest.raises(SinkClosedError, match=r"names no MLflow run; give <tracking URI>#runs/<run id>"):
        sink.open(run)


@pytest.mark.usefixtures("mlflow_db")
def test_a_project_is_an_experiment_and_is_made(run: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over the configured one; the second run finds it."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "configured")
    first = MLflowSink.create(Target(project="team/ppo")).open(run)
    again = MLflowSink.create(Target(project="team/ppo")).open(run)
    assert first == again
    assert experiment_of(first.run_id) == "team/ppo"


@pytest.mark.usefixtures("mlflow_db")
def test_an_experiment_that_another_process_makes_is_found(
    run: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that make it at once, one is told that it is there, and its next try finds it."""
    mlflow.MlflowClient().create_experiment("ppo")
    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "get_experiment_by_name", lambda *_: None)
        with pytest.raises(mlflow.exceptions.MlflowException, match="already exists"):
            MLflowSink.create(Target(project="ppo")).open(run)
    assert experiment_of(MLflowSink.create(Target(project="ppo")).open(run).run_id) == "ppo"


@pytest.mark.usefixtures("mlflow_db")
def test_a_deleted_experiment_is_said_to_be_one(run: Event) -> None:
    """Its name cannot be used; the command that brings it back is in the error."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("old")
    client.delete_experiment(experiment)
    with pytest.raises(
        SinkClosedError, match=f"'old' is deleted; .*mlflow experiments restore -x {experiment}"
    ):
        MLflowSink.create(Target(project="old")).open(run)


@pytest.mark.usefixtures("mlflow_db")
def test_without_a_status_the_run_is_left_running(run: Event, tmp_path: Path) -> None:
    """It goes on elsewhere; its files are there nevertheless."""
    (tmp_path / "report.html").write_text("ok")
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.close(None, [tmp_path / "report.html"], is_exit=True)
    client = mlflow.MlflowClient()
    assert client.get_run(home.run_id).info.status == "RUNNING"
    assert "rldk/report.html" in {file.path for file in client.list_artifacts(home.run_id, "rldk")}


def test_what_was_noted_is_believed() -> None:
    """To send the rest again would change nothing, so nothing needs to be looked up."""
    receipt = Receipt(source="sqlite:////x.db#runs/feed", at=12.5, base=3.0)
    assert [MLflowSink().settle(noted) for noted in (receipt, None)] == [12.5, 0.0]
