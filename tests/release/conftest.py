"""The wheel and the sdist, built once, and environments with what they need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rldk.event import Event, encode
from tests.release._environment import Environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """What `python -m build` makes: the sdist from the tree, and the wheel from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return SimpleNamespace(wheel=wheel, sdist=sdist)


@pytest.fixture(scope="session")
def environment(built, tmp_path_factory):
    """Make an environment with some extras; each once."""
    made = {}

    def make(*extras):
        if extras not in made:
            folder = tmp_path_factory.mktemp("environment") / "packages"
            made[extras] = Environment(folder, built.wheel, *extras)
        return made[extras]

    return make


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """One run, as a journal with enough steps for plots, and as a W&B file."""
    folder = tmp_path_factory.mktemp("runs")
    journal = folder / "r_events.jsonl"
    journal.write_bytes(b"".join(encode(_step(number)) + b"\n" for number in range(1, 31)))
    return SimpleNamespace(journal=journal)


@pytest.fixture(scope="session")
def in_mlflow(environment, runs, empty_mlflow_db, tmp_path_factory):
    """The database into which `rldk sync` of `rldk[mlflow]` has brought the run."""
    folder = tmp_path_factory.mktemp("in-mlflow")
    shutil.copy(empty_mlflow_db, folder / "mlflow.db")
    _synced(
        environment("mlflow"), runs, folder, "mlflow", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db"
    )
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def in_wandb(environment, runs, tmp_path_factory):
    """The offline folder into which `rldk sync` of `rldk[wandb]` has brought the run."""
    folder = tmp_path_factory.mktemp("in-wandb")
    _synced(environment("wandb"), runs, folder, "wandb", WANDB_MODE="offline", WANDB_DIR=str(folder))
    [run] = (folder / "wandb").glob("offline-run-*")
    return run


def _synced(place, runs, folder, tracker, **variables):
    shutil.copy(runs.journal, folder)
    done = place.rldk("sync", runs.journal.name, "--to", tracker, cwd=folder, **variables)
    assert done.returncode == 0, done.stderr


def _step(number):
    return Event(
        seq=number,
        time=1.7e9 + number,
        step=number,
        wall_time=float(number),
        metrics={"loss": 1 / number, "reward_mean": number / 10, "kl_mean": 0.01 * number},
        rng={"seed": 42},
        data_slice={},
        model_info={"run_id": "r", "phase": "train", "segment": 0},
        notes=[],
    )
