"""A real training with a real fault ends as ever, and what it logged is whole."""

from __future__ import annotations

import logging
import shutil
import time
from types import SimpleNamespace

import psutil
import pytest
from transformers import TrainerCallback

from rldk import bridge
from rldk.integrations.trl import RLDKCallback
from rldk.testing import MemorySink
from rldk_wandb import own
from tests.faults import _proxy
from tests.faults._life import is_complete
from tests.integrations.conftest import make_trainer, tiny_model  # noqa: F401  # fixtures

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("impatient", "_away")]

STEPS = 6


@pytest.fixture
def _away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class AtStep(TrainerCallback):
    """Does something after the third step, once trackers have something."""

    def __init__(self, act, callback):
        self._act, self._callback = act, callback

    def on_step_end(self, args, state, control, **kwargs):
        """Do it, if it is time."""
        if state.global_step == 3:
            for delivery in self._callback._recorder._deliveries:
                while not delivery.report().delivered:
                    time.sleep(0.01)
            self._act()


@pytest.fixture
def trained(make_trainer, tmp_path):  # noqa: F811
    """Train with a fault in the middle, and give what the callback has."""

    def train(name, act=lambda: None, **options):
        callback = RLDKCallback(tmp_path / "rldk", run_id="faulty-run", **options)
        make_trainer(name, [callback, AtStep(act, callback)], max_steps=STEPS).train()
        assert callback.errors == 0
        return SimpleNamespace(path=callback.journal_path, reports=callback.reports, end_s=0.0)

    return train


def whole(made_whole, run):
    """Check it, and make the tracker whole."""
    run.logged = list(range(1, STEPS + 1))
    made_whole(run)


def test_mlflow_fails_in_mid_training(trained, proxy, made_whole):
    """A server that answers 500 from step 3 on gets the rest from sync."""
    run = trained("SFT", lambda: proxy.fault(_proxy.answers(500)), trackers=["mlflow"])
    assert run.reports[0].waiting > 0
    proxy.heal()
    whole(made_whole, run)


def kill_core():
    """Kill the wandb-core of this process."""
    for process in psutil.Process().children(recursive=True):
        if process.name() == "wandb-core":
            process.kill()


@pytest.mark.usefixtures("wandb_offline")
def test_wandb_core_is_killed_in_mid_training(trained, made_whole):
    """A run of our own is opened anew."""
    run = trained("GRPO", kill_core, trackers=["wandb"])
    assert (run.reports[0].waiting, run.reports[0].is_closed) == (0, True)
    whole(made_whole, run)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # wandb's, of the dead
@pytest.mark.usefixtures("wandb_offline")
def test_wandb_core_of_the_users_run_is_killed_in_mid_training(trained, made_whole):
    """The user's run is dead, the training is not, and sync goes on with the run."""
    import wandb

    wandb.init(project="p", id="faulty-run")
    run = trained("SFT", kill_core)
    assert not run.reports[0].is_closed
    own.forget(wandb.run)  # the next command is a process of its own
    whole(made_whole, run)


def test_the_journal_is_removed_in_mid_training(trained, proxy, tmp_path, made_whole):
    """It is put back."""
    run = trained("SFT", lambda: shutil.rmtree(tmp_path / "rldk"), trackers=["mlflow"])
    assert run.reports[0].waiting == 0
    whole(made_whole, run)


class Broken(MemorySink):
    """A sink that cannot even be made."""

    fails = ""

    @classmethod
    def attach(cls):
        """Fail, or find nothing."""
        if cls.fails == "attach":
            raise OSError(cls.fails)

    @classmethod
    def create(cls, target=bridge.Target()):  # noqa: B008  # it is immutable
        """Succeed when the callback asks whether it can; fail when training begins."""
        if cls.fails == "create":
            raise OSError(cls.fails)
        return super().create(target)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", ["attach", "create"])
def test_a_sink_fails_at_init(make_trainer, tmp_path, monkeypatch, caplog, call):  # noqa: F811
    """The journal is written all the same."""
    caplog.set_level(logging.CRITICAL + 1, "rldk")  # a kept record would keep the journal open
    monkeypatch.setattr(bridge, "sinks", lambda: {"memory": Broken})
    monkeypatch.setattr(Broken, "fails", "")
    callback = RLDKCallback(tmp_path / "rldk", run_id="faulty-run", trackers=["memory"])
    monkeypatch.setattr(Broken, "fails", call)
    make_trainer("SFT", [callback], max_steps=STEPS).train()
    assert is_complete(callback.journal_path, list(range(1, STEPS + 1)))
    assert callback.errors == 1
