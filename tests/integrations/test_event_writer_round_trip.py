"""The long format and the journal give the same table, on every recording of a real run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk.integrations.trl import EventWriterCallback, event_writer
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "recordings").glob("*.jsonl"))
NAMES = {"grpo": "GRPO", "rloo": "RLOO", "ppo": "PPO", "dpo": "DPO", "kto": "KTO", "sft": "SFT"}
NAMES |= {"onlinedpo": "OnlineDPO", "reward": "Reward"}
KEYS = {"run_id", "step", "phase"}
NOT_MEASURED = {"wall_time", "seed", "git_sha"}  # the journal's own


def trainer_of(recording):
    """Short name of the trainer, which the file's name tells."""
    return NAMES[recording.stem.split("_")[1]]


def played(recording):
    """Step and logs of each line."""
    return [
        (line["global_step"], line["logs"]) for line in map(json.loads, recording.read_text().splitlines())
    ]


def write_long(recording, path):
    """Play a recording to the callback."""
    config = type(f"{trainer_of(recording)}Config", (SimpleNamespace,), {})
    args = config(run_name=None, output_dir="out")
    callback = EventWriterCallback(path, run_id="r")
    callback.on_train_begin(args, TrainerState(), TrainerControl())
    for step, logs in played(recording):
        callback.on_log(args, TrainerState(global_step=step), TrainerControl(), logs=logs)
    callback.on_train_end(args, TrainerState(), TrainerControl())
    assert callback.errors == 0


def write_wide(recording, path):
    """Play a recording to a journal."""
    run = Run(run_id="r", trainer=trainer_of(recording))
    recorder = Recorder(Journal(path), run, settings=Settings())
    recorder.begin(0, [])
    for step, logs in played(recording):
        recorder.log(step, logs)
    recorder.end("FINISHED", 0)


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Write a recording to both; gives the two files."""
    monkeypatch.setattr(event_writer, "_trl", lambda: "")  # the recordings are of many releases

    def make(recording):
        long, wide = tmp_path / "long.jsonl", tmp_path / "r_events.jsonl"
        write_long(recording, long)
        write_wide(recording, wide)
        return long, wide

    return make


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_every_metric_of_every_step_is_the_same(homes, recording):
    """Names, values, NaN and what is missing."""
    long, wide = map(ingest_runs, homes(recording))
    differing = differing_cells(wide, long)
    assert {name: n for name, n in differing.items() if n and name not in NOT_MEASURED} == {}
    assert set(long.columns) == set(wide.columns)
    assert len(long) > 1


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_every_number_of_a_log_is_a_line_with_its_raw_name(homes, recording):
    """Nothing is dropped, nothing is added but what is derived."""
    long, _ = homes(recording)
    lines = [json.loads(line) for line in long.read_text().splitlines()]
    told = {(line["step"], line["meta"].get("raw_name")) for line in lines}
    assert told - {(step, None) for step, _ in told} == {
        (step, raw) for step, logs in played(recording) for raw, value in logs.items() if value is not None
    }
