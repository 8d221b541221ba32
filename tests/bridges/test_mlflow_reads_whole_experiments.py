"""An experiment is a source of all its runs."""

from __future__ import annotations

import mlflow
import pytest

from rldk.errors import SourceError
from rldk_mlflow import asked
from rldk_mlflow.adapter import MLflowAdapter


def made(name: str, runs: int, *, empty: bool = False) -> tuple[str, list[str]]:
    """An experiment with runs that began one after the other, the last one first made."""
    client = mlflow.MlflowClient()
    experiment = client.create_experiment(name)
    ids = [client.create_run(experiment, start_time=1_000_000 - n).info.run_id for n in range(runs)]
    for run_id in ids if not empty else []:
        client.log_metric(run_id, "loss", 1.0)
    return experiment, ids[::-1]


@pytest.mark.parametrize("name", ["ppo", "team/PPO (new)? #2", "7"])
def test_the_runs_are_named_in_the_order_of_their_start(
    mlflow_db: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On all pages, by the id and by the name; each is a source of its own."""
    monkeypatch.setattr(asked, "_RUNS_A_PAGE", 2)
    experiment, ids = made(name, 5)
    expected = [f"{mlflow_db}#runs/{run_id}" for run_id in ids]
    assert MLflowAdapter(f"{mlflow_db}#experiments/{name}").runs() == expected
    assert MLflowAdapter(f"{mlflow_db}#experiments/{experiment}").runs() == expected
    assert all(MLflowAdapter(source).runs() == [source] for source in expected)


def test_the_address_of_an_experiments_page_is_a_source(mlflow_server: str) -> None:
    """With the tab and the filters that happen to be open."""
    experiment, ids = made("of the page", 2)
    page = f"{mlflow_server}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert MLflowAdapter(page).runs() == [f"{mlflow_server}#runs/{run_id}" for run_id in ids]
    named = MLflowAdapter(f"{mlflow_server}/#experiments/of%20the%20page")
    assert [e.run_id for e in named.events() if e.kind == "run"] == ids


def test_a_deleted_run_is_not_named(mlflow_db: str) -> None:
    """Whoever deleted it does not want it."""
    _, ids = made("ppo", 2)
    mlflow.MlflowClient().delete_run(ids[0])
    assert MLflowAdapter(f"{mlflow_db}#experiments/ppo").runs() == [f"{mlflow_db}#runs/{ids[1]}"]


def test_events_are_those_of_one_run_after_the_other(mlflow_db: str) -> None:
    """A run without metrics stops no other; it is among the problems."""
    experiment, ids = made("ppo", 2)
    empty = mlflow.MlflowClient().create_run(experiment).info.run_id
    adapter = MLflowAdapter(f"{mlflow_db}#experiments/ppo")
    assert [(e.run_id, e.kind) for e in adapter.events()] == [
        (run_id, kind) for run_id in ids for kind in ("run", "metrics")
    ]
    assert len(adapter.problems) == 1
    assert f"the run {empty} holds no metrics" in adapter.problems[0]


def test_a_problem_of_one_run_says_which(mlflow_db: str) -> None:
    """It names the source of the run."""
    _, [run_id] = made("ppo", 1, empty=True)
    client = mlflow.MlflowClient()
    for value in (1.0, 2.0):
        client.log_metric(run_id, "rldk/loss", value, timestamp=1_000_001, step=1)
    adapter = MLflowAdapter(f"{mlflow_db}#experiments/ppo")
    list(adapter.events())
    assert adapter.problems[0].startswith(f"{mlflow_db}#runs/{run_id}: rldk/loss has two values")


def test_an_experiment_without_runs_is_empty(mlflow_db: str) -> None:
    """That is no error."""
    made("ppo", 0)
    assert MLflowAdapter(f"{mlflow_db}#experiments/ppo").runs() == []


@pytest.mark.parametrize("known", ["nowhere", "77"])
def test_an_unknown_experiment_is_an_error(mlflow_db: str, known: str) -> None:
    """By its name and by its id."""
    with pytest.raises(SourceError, match=f"there is no experiment '{known}'; check"):
        MLflowAdapter(f"{mlflow_db}#experiments/{known}").runs()


def test_a_deleted_experiment_is_an_error(mlflow_db: str) -> None:
    """With the command that brings it back."""
    experiment, _ = made("ppo", 1)
    mlflow.MlflowClient().delete_experiment(experiment)
    with pytest.raises(SourceError, match=f"'ppo' is deleted; .*restore -x {experiment}"):
        list(MLflowAdapter(f"{mlflow_db}#experiments/ppo").events())


def test_a_dead_server_is_an_error(dead_server: str) -> None:
    """Said once, not for each run."""
    with pytest.raises(SourceError, match=r"cannot read .*#/experiments/3: .*check"):
        MLflowAdapter(f"{dead_server}/#/experiments/3").runs()


def test_the_credentials_of_the_source_are_those_of_its_runs(
    mlflow_server: str, dead_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives them with the experiment reads its runs; no problem tells them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    experiment, [run_id] = made("private", 1)
    mlflow.MlflowClient().create_run(experiment)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_server)
    uri = mlflow_server.replace("://", "://user:secret@")
    adapter = MLflowAdapter(f"{uri}#experiments/private")
    assert f"{uri}#runs/{run_id}" in adapter.runs()
    assert {e.run_id for e in adapter.events()} == {run_id}
    assert "secret" not in adapter.problems[0]
