"""Beside transformers' own W&B and MLflow callbacks: the same runs, nothing twice, the right end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest

from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk_wandb.offline import WandbFile

pytestmark = pytest.mark.real

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    from datasets import Dataset
    from rldk.demo import build_tiny_model
    from rldk.integrations.trl import RLDKCallback
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Breaks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3 and sys.argv[1] == "broken":
                raise ValueError("on purpose")

    model, tokenizer = build_tiny_model(Path("model"))
    args = SFTConfig(
        output_dir="out", max_steps=5, logging_steps=1, save_strategy="no", per_device_train_batch_size=2,
        use_cpu=True, bf16=False, report_to=["wandb", "mlflow"], disable_tqdm=True, max_length=16,
    )
    data = Dataset.from_dict({"text": ["good bad left", "right up down"] * 16})
    callback = RLDKCallback(output_dir="rldk")
    trainer = SFTTrainer(
        model, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[callback, Breaks()]
    )
    trainer.train()
    print(callback.run_id)
""")


def train(folder, how):
    """Run the script; gives the finished process, the journal and the W&B file."""
    quiet = {"WANDB_MODE": "offline", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}
    environment = os.environ | quiet | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    (journal,) = (folder / "rldk").glob("*_events.jsonl")
    (wandb,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return done, journal, wandb


def mlflow_run(folder):
    """The only run in the folder's database."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return run


def test_all_share_one_run_and_disturb_nobody(tmp_path):
    """Both trackers hold the trainer's own metrics and RLDK's beside them, each in full."""
    done, journal, wandb = train(tmp_path, "healthy")
    assert done.returncode == 0, done.stderr
    run_id = journal.name.removesuffix("_events.jsonl")
    assert wandb.name == f"run-{run_id}.wandb"
    table, shown = ingest_runs(journal), mlflow_run(tmp_path)
    homes = (wandb, f"sqlite:///{tmp_path}/mlflow.db#runs/{shown.info.run_id}")
    assert all(set(differing_cells(table, ingest_runs(home)).values()) == {0} for home in homes)
    assert {"loss", "rldk/loss"} <= set(shown.data.metrics)
    assert shown.data.tags["rldk.run_id"] == run_id
    assert shown.info.status == "FINISHED"
    assert not [name for name in shown.data.params if name.startswith("args/")], "transformers logs them"
    rows = list(WandbFile(wandb).rows())
    assert sum("train/loss" in row for row in rows) == sum("rldk/loss" in row for row in rows) == 5
    assert not [row for row in rows if "train/loss" in row and "rldk/loss" in row]
    assert not re.search(r"[Ss]teps? must be monotonically", done.stderr)


def test_training_that_raises_is_failed_everywhere(tmp_path):
    """Transformers alone leaves such a run FINISHED in MLflow."""
    done, journal, wandb = train(tmp_path, "broken")
    assert done.returncode == 1
    assert "on purpose" in done.stderr
    assert '"status":"FAILED"' in journal.read_text().splitlines()[-1]
    assert mlflow_run(tmp_path).info.status == "FAILED"
    assert WandbFile(wandb).run().exit_code == 1
    assert ingest_runs(wandb)["step"].tolist() == ingest_runs(journal)["step"].tolist()
