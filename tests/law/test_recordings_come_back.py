"""What real trainers logged is the same table from every tracker as from the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from rldk.testing import ManualClock
from rldk.testing.conformance import renamed
from rldk.testing.courier import deliver, read_journal
from rldk.testing.law import check_read_back, check_table, expected
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import wandb_offline  # noqa: F401

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
NAMES = {"grpo": "GRPO", "rloo": "RLOO", "ppo": "PPO", "dpo": "DPO", "kto": "KTO", "sft": "SFT"}
NAMES |= {"onlinedpo": "OnlineDPO", "reward": "Reward"}
RESUMED = {"1.16.0_grpo_resumeA": ("1.16.0_grpo_resumeA", "1.16.0_grpo_resumeB")}
RECORDINGS = [path.stem for path in sorted(FOLDER.glob("*.jsonl"))]
SOME = ["0.23.1_ppo", "1.12.0_ppo_nan", "1.16.0_dpo_eval", "1.16.0_grpo_resumeA", "1.16.0_sft_nanloss"]


def record(name, folder):
    """Play a recording to a recorder, and the one that resumes it into the same journal."""
    path = folder / f"{name}_events.jsonl"
    clock = ManualClock()
    for part in RESUMED.get(name, (name,)):
        trl, trainer, *_ = part.split("_")
        lines = [json.loads(line) for line in (FOLDER / f"{part}.jsonl").read_text().splitlines()]
        run = Run(run_id=name, trainer=NAMES[trainer], trl=trl, seed=42, git_sha="abc123")
        recorder = Recorder(Journal(path), run, settings=Settings(), clock=clock)
        recorder.begin(max(lines[0]["global_step"] - 1, 0), [])
        for line in lines:
            clock.advance(0.4375)
            recorder.log(line["global_step"], line["logs"], {"tokens_in": line["global_step"] * 1000})
        recorder.end("FINISHED", lines[-1]["global_step"])
    return read_journal(path)


def check(name, sink, adapter, folder):
    """Send a recording to a tracker; the table that anybody reads of it is the journal's."""
    (folder / "recorded").mkdir()
    events = renamed(record(name, folder / "recorded"))
    path = folder / f"{events[0].run_id}_events.jsonl"
    home = deliver(events, sink.create, path)
    check_read_back(read_journal(path), home.source, sink, adapter)
    here, there = ingest_runs(path), ingest_runs(home.source)
    check_table(expected(read_journal(path), sink), there, name)
    assert not any(differing_cells(here, there).values())
    assert (there.attrs["trainers"], there.attrs["units"]) == (here.attrs["trainers"], here.attrs["units"])
    assert there.attrs["problems"] == []
    assert len(here) > 0


@pytest.mark.usefixtures("mlflow_db")
@pytest.mark.parametrize("name", RECORDINGS)
def test_from_sqlite(tmp_path, name):
    """MLflow, a database in a file."""
    check(name, MLflowSink, MLflowAdapter, tmp_path)


@pytest.mark.real
@pytest.mark.usefixtures("mlflow_server")
@pytest.mark.parametrize("name", SOME)
def test_from_a_server(tmp_path, name):
    """MLflow, a server."""
    check(name, MLflowSink, MLflowAdapter, tmp_path)


@pytest.mark.real
@pytest.mark.usefixtures("mlflow_postgres")
@pytest.mark.parametrize("name", SOME)
def test_from_postgres(tmp_path, name):
    """MLflow, PostgreSQL."""
    check(name, MLflowSink, MLflowAdapter, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("name", RECORDINGS)
def test_from_wandb(tmp_path, name):
    """W&B, in files."""
    check(name, WandbSink, WandbAdapter, tmp_path)
