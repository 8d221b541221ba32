"""EventWriterCallback appends to one file, whatever happened to it before."""

from __future__ import annotations

import json
import resource

import mlflow
import pytest
from transformers import TrainerControl, TrainerState

from rldk.ingest import ingest_runs
from rldk.integrations.trl import EventWriterCallback

LINE = '{"step": 1, "name": "loss", "value": 1, "run_id": "r"}'


class GRPOConfig:
    """The arguments that the callback looks at."""

    run_name = None
    output_dir = "out"


@pytest.fixture
def path(tmp_path):
    """The file."""
    return tmp_path / "log.jsonl"


def begin(callback, step=0, **state):
    """Begin to train."""
    callback.on_train_begin(GRPOConfig(), TrainerState(global_step=step, **main(state)), TrainerControl())


def log(callback, step, logs=None, **state):
    """Log one loss, or something else."""
    now = TrainerState(global_step=step, **main(state))
    callback.on_log(GRPOConfig(), now, TrainerControl(), logs=logs or {"loss": step})


def end(callback):
    """End training."""
    callback.on_train_end(GRPOConfig(), TrainerState(), TrainerControl())


def main(state):
    """Be the main process, unless the state says otherwise."""
    return {"is_world_process_zero": True} | state


def train(callback, steps=(1, 2), start=0):
    """Train for a few steps."""
    begin(callback, start)
    for step in steps:
        log(callback, step)
    end(callback)


def test_missing_folders_are_made(tmp_path):
    """A new place needs no preparation."""
    path = tmp_path / "a" / "b" / "log.jsonl"
    train(EventWriterCallback(path))
    assert len(ingest_runs(path)) == 2


def test_each_line_is_in_the_file_when_the_hook_returns(path):
    """A process that is killed loses nothing that was logged."""
    callback = EventWriterCallback(path)
    begin(callback)
    log(callback, 1, {"loss": 1, "reward": 2})
    assert path.read_text().count("\n") == 2
    end(callback)


def test_a_torn_last_line_is_cut_off(path):
    """The whole lines before it stay as they are."""
    path.write_text(f'{LINE}\n{{"step": 2, "na')
    train(EventWriterCallback(path, run_id="s"))
    assert path.read_text().startswith(f'{LINE}\n{{"time"')
    table = ingest_runs(path)
    assert (len(table), table.attrs["problems"]) == (3, [])


def test_a_last_line_without_its_newline_is_kept(path):
    """As some editors leave it."""
    path.write_text(LINE)
    train(EventWriterCallback(path, run_id="s"))
    assert ingest_runs(path)["run_id"].tolist() == ["r", "s", "s"]


def test_a_file_that_is_not_ours_is_never_cut_by_much(path):
    """What is too long to be a line of ours is ended, not removed."""
    path.write_bytes(b"x" * (2**20 + 1))
    train(EventWriterCallback(path))
    assert path.read_bytes().startswith(b"x" * (2**20 + 1) + b"\n{")


def test_the_file_is_closed_when_training_ends_and_opened_again_by_the_next(path):
    """Each training is a run of its own."""
    callback = EventWriterCallback(path)
    train(callback)
    first = callback.run_id
    assert callback._file is None
    train(callback)
    assert callback.run_id != first
    assert ingest_runs(path)["run_id"].value_counts().to_dict() == {first: 2, callback.run_id: 2}


def test_a_training_that_raised_leaves_no_file_open(path):
    """Neither when the next begins, nor when the callback is forgotten: an open file would warn here."""
    callback = EventWriterCallback(path)
    begin(callback)
    log(callback, 1)
    train(callback)
    begin(callback)
    del callback
    assert len(ingest_runs(path)) == 3


def test_a_given_run_id_is_made_safe_and_kept(path):
    """It names every training of this callback."""
    callback = EventWriterCallback(path, run_id="a/b")
    train(callback, [1])
    train(callback, [2])
    assert callback.run_id.startswith("a_b-")
    assert set(ingest_runs(path)["run_id"]) == {callback.run_id}


def test_a_resumed_training_continues_the_run_of_the_file(path):
    """The steps that it repeats stand as the resumed process logged them."""
    first = EventWriterCallback(path)
    begin(first)
    log(first, 1)
    log(first, 2, {"loss": 2, "lost": 1})
    del first
    second = EventWriterCallback(path)
    train(second, [2, 3], start=1)
    table = ingest_runs(path)
    assert table["run_id"].tolist() == [second.run_id] * 3
    assert table["step"].tolist() == [1, 2, 3]
    assert "lost" not in table.columns
    assert [json.loads(line)["meta"]["segment"] for line in path.read_text().splitlines()] == [0, 0, 0, 1, 1]


def test_an_active_mlflow_run_names_the_run(path, tmp_path):
    """As it does for RLDKCallback."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run() as active:
        callback = EventWriterCallback(path)
        train(callback)
    mlflow.set_tracking_uri(None)
    assert callback.run_id == active.info.run_id


def test_only_the_main_process_writes(path):
    """The others do not even make the file."""
    callback = EventWriterCallback(path)
    begin(callback, is_world_process_zero=False)
    log(callback, 1, is_world_process_zero=False)
    end(callback)
    assert not path.exists()


def test_evaluation_outside_training_is_written(path):
    """And leaves no file open, for nobody says when the last one was."""
    callback = EventWriterCallback(path)
    log(callback, 5, {"eval_loss": 1})
    assert callback._file is None
    log(callback, 5, {"eval_reward": 2})
    table = ingest_runs(path)
    assert table[["phase", "loss", "reward_mean"]].to_numpy().tolist() == [["eval", 1, 2]]


def test_a_place_that_cannot_be_written_costs_the_log_alone(tmp_path, caplog):
    """Each failure is counted, the first is logged, and none reaches the trainer."""
    (tmp_path / "file").write_text("")
    callback = EventWriterCallback(tmp_path / "file" / "log.jsonl")
    train(callback)
    assert callback.errors == 3
    said = [r.getMessage().partition("\n")[0] for r in caplog.records]  # the trace follows
    assert said == ["RLDK failed in on_train_begin; training goes on"]


def test_a_full_disk_leaves_whole_lines_behind(path):
    """What was torn is cut off as soon as there is room again."""
    callback = EventWriterCallback(path, run_id="r")
    begin(callback)
    log(callback, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        log(callback, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert callback.errors == 1
    log(callback, 3)
    end(callback)
    table = ingest_runs(path)
    assert (table["step"].tolist(), table.attrs["problems"]) == ([1, 3], [])


@pytest.mark.parametrize("foreign", ["my precious notes", '{"foo":1}\n{"bar":2}', '{"v":1,"kind":"run"}'])
def test_what_is_not_ours_is_never_cut(tmp_path, foreign):
    """A file of somebody else gets a newline, and then our lines."""
    from rldk.integrations.trl.event_writer import _AppendedFile

    path = tmp_path / "log.jsonl"
    path.write_text(foreign)
    opened = _AppendedFile(path)
    opened.append(b"{}")
    opened.close()
    assert path.read_text() == f"{foreign}\n{{}}\n"
