"""A killed and resumed run is one run: one journal, one tracker run, each step once in the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rldk.adapters.trl import TRLAdapter
from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk.journal import read

pytestmark = pytest.mark.real

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    from datasets import Dataset
    from rldk.demo import build_tiny_model
    from rldk.integrations.trl import RLDKCallback
    from trl import SFTConfig, SFTTrainer

    resume, trackers = sys.argv[1] == "resume", [name for name in sys.argv[2].split(",") if name]
    model, tokenizer = build_tiny_model(Path("model"))
    args = SFTConfig(
        output_dir="out", max_steps=60, logging_steps=1, save_steps=20, per_device_train_batch_size=2,
        use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, max_length=16,
    )
    data = Dataset.from_dict({"text": ["good bad left", "right up down"] * 16})
    callback = RLDKCallback(trackers=trackers)
    trainer = SFTTrainer(
        model, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[callback]
    )
    trainer.train(resume_from_checkpoint=resume)
    for report in callback.reports:
        print(report.tracker, report.home.run_id, report.home.source, report.waiting)
""")


@pytest.fixture
def start(tmp_path):
    """Start the script, once to begin and once to resume.

    The database is there before: MLflow cannot open one whose creation was killed half-way.
    """
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = os.environ | quiet | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}

    def run(how, trackers):
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, how, trackers]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


def wait_for_step(process, folder, step):
    """Wait until a journal in the folder has the step; gives the journal."""
    while process.poll() is None:
        for path in folder.glob("*_events.jsonl"):
            if any(entry.event and entry.event.step >= step for entry in read(path)):
                return path
        time.sleep(0.02)
    pytest.fail(f"the script ended before step {step}: {process.communicate()[1]}")


def killed(process, number):
    """Kill a process and wait for its end; gives its exit code."""
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def test_a_resumed_run_is_the_same_run_everywhere(start, tmp_path):
    """Killed at step 45, resumed at 40 with no flag: 60 unique steps in the journal and in MLflow."""
    with start("begin", "mlflow,wandb") as first:
        journal = wait_for_step(first, tmp_path / "out" / "rldk", 45)
        killed(first, signal.SIGKILL)
    with start("resume", "mlflow,wandb") as second:
        printed, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors
    homes = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line}
    table = ingest_runs(journal)
    assert list((tmp_path / "out" / "rldk").glob("*_events.jsonl")) == [journal]
    assert table["step"].tolist() == list(range(1, 61))
    assert homes["wandb"][0] == journal.name.removesuffix("_events.jsonl")
    mlflow = ingest_runs(homes["mlflow"][1])
    assert set(differing_cells(table, mlflow).values()) == {0}
    everything = TRLAdapter(journal).load(attempts="all")
    assert everything["step"].is_unique is False
    assert set(everything["segment"]) == {0, 1}
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*-{homes['wandb'][0]}"))) == 2


@pytest.mark.parametrize(
    ("number", "status", "code"), [(signal.SIGTERM, "KILLED", 143), (signal.SIGINT, "KILLED", 1)]
)
def test_a_terminated_run_ends_as_killed(start, tmp_path, number, status, code):
    """SIGTERM and Ctrl-C end the run in order: its last event and its tracker tell so."""
    with start("begin", "mlflow") as process:
        journal = wait_for_step(process, tmp_path / "out" / "rldk", 5)
        returned = killed(process, number)
    events = [entry.event for entry in read(journal)]
    assert (events[-1].kind, events[-1].model_info["status"]) == ("end", status)
    assert returned in {code, -number, 128 + number}
    assert mlflow_status(tmp_path) == status


def mlflow_status(folder):
    """Status of the only run in a folder's database."""
    from mlflow import MlflowClient

    (run,) = MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["0"])
    return run.info.status
