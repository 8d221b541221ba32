"""What the tests of the trackers' pages share: one real training, recorded on a server and offline."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests._wandb_backend import forget_wandb

NAME = "grpo-in-the-browser"
STEPS = 12


class Recorded(NamedTuple):
    """Where the run is.

    Attributes:
        experiment: The address of its experiment in MLflow's UI.
        run_id: MLflow's id of the run.
        client: An MlflowClient for the server.
        journal: RLDK's journal.
        wandb_file: The offline record.
    """

    experiment: str
    run_id: str
    client: object
    journal: Path
    wandb_file: Path


@pytest.fixture(scope="session")
def screenshots():
    """The script that makes the pictures of the documentation: it knows how to train and to browse."""
    path = Path(__file__).parents[2] / "tools" / "screenshots.py"
    spec = importlib.util.spec_from_file_location("screenshots", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["screenshots"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def recorded(_mlflow_server, screenshots, tmp_path_factory):
    """A GRPO training with evaluations, checkpoints and an alert, with runs open in MLflow and W&B."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch, opened(_mlflow_server, folder, patch) as (ours, theirs):
        callback = screenshots.train(folder, steps=STEPS, kl_limit=1e-3)
        experiment = f"{_mlflow_server}/#/experiments/{ours.info.experiment_id}"
        file = Path(theirs.settings.sync_file)
    assert [report.is_closed for report in callback.reports] == [True, True], callback.reports
    import mlflow

    return Recorded(
        experiment, ours.info.run_id, mlflow.MlflowClient(_mlflow_server), callback.journal_path, file
    )


@contextmanager
def opened(server, folder, patch):
    """Runs of the script's own, as a user opens them; both are ended."""
    import mlflow
    import wandb

    places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    quiet |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": server}
    for name, value in (dict.fromkeys(places, str(folder)) | quiet).items():
        patch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("WANDB_") and name not in {*places, *quiet}]:
        patch.delenv(name)
    forget_wandb()
    mlflow.set_tracking_uri(None)
    mlflow.set_experiment(f"browser {folder.name}")
    try:
        yield mlflow.start_run(run_name=NAME), wandb.init(project="browser", name=NAME)
    finally:
        mlflow.end_run()
        wandb.finish()
        forget_wandb()
