"""With several processes, the main one records; the others, when asked, keep a journal of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from rldk.ingest import ingest_runs
from rldk.journal import read

pytestmark = pytest.mark.real

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path
    import mlflow
    from datasets import Dataset
    from rldk.demo import build_tiny_model
    from rldk.integrations.trl import RLDKCallback
    from trl import SFTConfig, SFTTrainer
    import os

    model, tokenizer = build_tiny_model(Path("model-" + os.environ["RANK"]))
    args = SFTConfig(
        output_dir="out", max_steps=6, logging_steps=1, save_strategy="no", per_device_train_batch_size=2,
        use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, max_length=16, ddp_backend="gloo",
    )
    data = Dataset.from_dict({"text": ["good bad left", "right up down"] * 16})
    callback = RLDKCallback(trackers=["mlflow"], per_rank=sys.argv[1] == "per_rank")
    trainer = SFTTrainer(
        model, args=args, train_dataset=data, eval_dataset=data.select(range(4)), processing_class=tokenizer,
        callbacks=[callback],
    )
    assert args.world_size == 2
    trainer.train()
    trainer.evaluate()  # outside training: no process waits for another
    assert callback.errors == 0
""")


def torchrun(folder, how):
    """Run the script with two processes on the CPU."""
    (folder / "train.py").write_text(SCRIPT)
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment = os.environ | quiet | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "train.py", how], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "out" / "rldk"


def mlflow_runs(folder):
    """Every run in the folder's database."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["0"])


def test_two_processes_make_one_journal_and_one_tracker_run(tmp_path):
    """Nothing is written twice, though every process gets every log."""
    written = torchrun(tmp_path, "main")
    (journal,) = written.glob("*.jsonl")
    seqs = [entry.event.seq for entry in read(journal)]
    assert seqs == list(range(len(seqs)))
    table = ingest_runs(journal)
    assert table.loc[table["phase"] == "train", "step"].tolist() == list(range(1, 7))
    assert table.loc[table["phase"] == "eval", "step"].tolist() == [6]
    assert len(mlflow_runs(tmp_path)) == 1


def test_with_per_rank_the_other_process_keeps_its_own_journal(tmp_path):
    """It has the same run_id, says its rank, and holds the time of the steps; a folder reads as one run."""
    written = torchrun(tmp_path, "per_rank")
    (journal,) = written.glob("*_events.jsonl")
    run_id = journal.name.removesuffix("_events.jsonl")
    other = [entry.event for entry in read(written / f"{run_id}.rank1.jsonl")]
    assert {(event.run_id, event.model_info["rank"]) for event in other} == {(run_id, 1)}
    assert any(event.metrics.get("rank_step_time", 0) > 0 for event in other)
    assert other[-1].model_info["status"] == "FINISHED"
    assert ingest_runs(written)["step"].tolist() == [*range(1, 7), 6]
    assert len(mlflow_runs(tmp_path)) == 1
