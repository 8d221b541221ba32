"""A fault put into a real training is named wherever the run is told of; a healthy one is left alone."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, NamedTuple

import mlflow
import pytest
import torch
import wandb

from benchmarks.health import world
from benchmarks.health.scenario import train
from benchmarks.health.scenarios import SCENARIOS
from benchmarks.health.trainers import is_installed
from rldk import journal
from rldk.history import histories
from rldk.integrations.trl import RLDKCallback
from tests._wandb_backend import forget_wandb

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.health.scenario import Scenario

pytestmark = pytest.mark.real

FAULTS = (
    "grpo_constant",
    "grpo_kl",
    "grpo_length",
    "grpo_nan_reward",
    "grpo_no_eos",
    "dpo_labels",
    "sft_frozen",
    "sft_lr_late",
    "ppo_kl",
)
HEALTHY = ("healthy_grpo_beta", "healthy_sft")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Trained(NamedTuple):
    """A training that is over: what it was, and where it is told of."""

    scenario: Scenario
    callback: RLDKCallback
    mlflow_run: str
    folder: Path

    @property
    def alerts(self):
        """What the alert events of the journal say."""
        events = (entry.event for entry in journal.read(self.callback.journal_path))
        return [event.model_info["alert"] for event in events if event.kind == "alert"]

    @property
    def named(self):
        """The rules that named the fault in the journal, no sooner than it was there."""
        return {
            alert["rule"]
            for alert in self.alerts
            if alert["severity"] != "info" and alert["since_step"] >= self.scenario.at
        }.intersection(self.scenario.rules)

    @property
    def home(self):
        """Where each tracker has the run."""
        return {report.tracker: report.home.source for report in self.callback.reports}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Both trackers write below one folder, and no run of another test is active."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        yield folder
        forget_wandb()
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def start(place):
    """The models that all trainings start from."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are so small that more only wait for each other
    yield world.make(place / "world", ("far_judge",) if is_installed("PPO") else ())
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(request, place, start):
    """One of the scenarios, trained once for all tests beside an active run of each tracker."""
    scenario = BY_NAME[request.param]
    if not is_installed(scenario.trainer):
        pytest.skip(f"the installed TRL has no {scenario.trainer}Trainer")
    folder = place / scenario.name
    callback = RLDKCallback(folder, run_id=scenario.name)
    with mlflow.start_run() as run, wandb.init(project="p", dir=str(folder.parent)):
        train(scenario, start, folder / "trainer", 0, [callback])
    return Trained(scenario, callback, run.info.run_id, folder)


def of(names):
    """Run a test on each of the scenarios."""
    return pytest.mark.parametrize("trained", names, indirect=True)


@of(FAULTS)
class TestAFault:
    """What is told of a training with a fault in it."""

    def test_it_is_named_in_the_journal(self, trained):
        """By a rule that is right about it, with a message, advice and a source."""
        assert trained.named
        assert trained.callback.errors == 0
        for alert in trained.alerts:
            assert all((alert["message"], alert["advice"], alert["source"]))

    def test_it_is_named_in_the_alerts_file(self, trained):
        """The file beside the journal holds each alert that was raised."""
        path = trained.folder / f"{trained.scenario.name}_alerts.json"
        told = {alert["rule"] for alert in json.loads(path.read_text())["alerts"]}
        assert trained.named <= told
        assert told == {alert["rule"] for alert in trained.alerts}

    def test_it_is_named_in_mlflow(self, trained):
        """The run's tags say it, and so does a metric at the step."""
        client = mlflow.MlflowClient()
        data = client.get_run(trained.mlflow_run).data
        said = " ".join(data.tags.values())
        for rule in trained.named:
            assert f"rldk/alert/{rule}" in data.metrics
            assert rule in said

    def test_it_is_named_in_wandb(self, trained):
        """The offline run holds the alert's level, and its summary the verdict."""
        events = [event for run in histories(trained.home["wandb"]) for event in run.events()]
        told = {rule for event in events if event.kind == "alert" for rule in event.metrics}
        assert trained.named <= told


@of(HEALTHY)
def test_a_healthy_run_is_left_alone(trained):
    """No alert in the journal, in the file, in MLflow or in W&B, and the verdict is ok."""
    path = trained.folder / f"{trained.scenario.name}_alerts.json"
    tracked = [event for home in trained.home.values() for run in histories(home) for event in run.events()]
    assert trained.alerts == json.loads(path.read_text())["alerts"] == []
    assert [event for event in tracked if event.kind == "alert"] == []
    assert set(trained.home) == {"mlflow", "wandb"}
    *_, end = journal.read(trained.callback.journal_path)
    assert end.event.model_info["health"]["verdict"] == "ok"
