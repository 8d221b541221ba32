"""RLDKCallback in a real GRPOTrainer: all that it logs is in the journal, whatever else happens."""

from __future__ import annotations

import logging

import pytest

from rldk.errors import SettingError, UnknownBridgeError
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback
from rldk.journal import Journal, read

pytestmark = pytest.mark.real


def events_of(callback, kind=None):
    """Read the events that a callback wrote."""
    events = [entry.event for entry in read(callback.journal_path)]
    return [event for event in events if kind is None or event.kind == kind]


def test_training_is_recorded_without_any_tracker(grpo, tmp_path):
    """The journal holds the run, each step, and the end; the table has a row a step."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    grpo([callback]).train()
    table = ingest_runs(callback.journal_path)
    kinds = [event.kind for event in events_of(callback) if event.kind != "resource"]
    assert kinds == ["run", "metrics", "metrics", "metrics", "end"]
    assert table["step"].tolist() == [1, 2, 3]
    assert table["reward_mean"].notna().all()
    assert table["kl_mean"].isna().all()
    assert callback.errors == 0


def test_the_run_event_tells_trainer_versions_units_and_arguments(grpo, tmp_path):
    """What a reader needs to understand the numbers is in the first line."""
    callback = RLDKCallback(output_dir=tmp_path)
    grpo([callback], seed=7, hub_token="hf_" + "a" * 30).train()
    run = events_of(callback)[0]
    assert run.rng == {"seed": 7}
    assert run.model_info["trainer"] == "GRPO"
    assert run.model_info["versions"]["trl"]
    assert run.model_info["units"]["reward_mean"] == "reward"
    assert run.model_info["args"]["max_steps"] == 3
    assert "hf_" + "a" * 30 not in callback.journal_path.read_text()


def test_without_output_dir_the_journal_is_beside_the_trainers_output(grpo, tmp_path):
    """The default folder is `rldk` in the trainer's output_dir."""
    callback = RLDKCallback(run_id="mine")
    grpo([callback]).train()
    assert callback.journal_path == tmp_path / "out" / "rldk" / "mine_events.jsonl"


def test_a_subclass_adds_metrics_of_its_own(grpo, tmp_path):
    """What is added to `logs` before super().on_log is recorded."""

    class Mine(RLDKCallback):
        """Adds one metric."""

        def on_log(self, args, state, control, logs=None, **kwargs):
            """Add, then record."""
            logs["my_metric"] = state.global_step * 2
            super().on_log(args, state, control, logs=logs, **kwargs)

    callback = Mine(output_dir=tmp_path)
    grpo([callback]).train()
    assert ingest_runs(callback.journal_path)["my_metric"].tolist() == [2, 4, 6]


def test_an_error_in_rldk_never_reaches_the_trainer(grpo, tmp_path, caplog):
    """Training ends normally; the failure is logged once and counted."""
    (tmp_path / "file").write_text("")
    callback = RLDKCallback(output_dir=tmp_path / "file")
    trainer = grpo([callback])
    trainer.train()
    assert trainer.state.global_step == 3
    assert callback.errors >= 1
    assert "choose a writable output_dir" in caplog.text


def test_jsonl_log_interval_thins_the_journal(grpo, tmp_path):
    """Only every so many steps are recorded."""
    callback = RLDKCallback(output_dir=tmp_path, jsonl_log_interval=2)
    grpo([callback], max_steps=5).train()
    assert ingest_runs(callback.journal_path)["step"].tolist() == [1, 3, 5]


def test_log_interval_says_a_line_of_the_runs_state(grpo, tmp_path, caplog):
    """The line goes through logging, every so many steps."""
    with caplog.at_level(logging.INFO, logger="rldk"):
        grpo([RLDKCallback(output_dir=tmp_path, log_interval=2)], max_steps=4).train()
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("step ")]
    assert [line.split(",")[0].split(";")[0] for line in lines] == [
        "step 2 of 4 (50 %)",
        "step 4 of 4 (100 %)",
    ]
    assert "reward_mean " in lines[0]


def test_log_interval_counts_steps_that_are_recorded(grpo, tmp_path, caplog):
    """A thinned journal still gets its lines."""
    with caplog.at_level(logging.INFO, logger="rldk"):
        grpo([RLDKCallback(output_dir=tmp_path, log_interval=4, jsonl_log_interval=2)], max_steps=7).train()
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("step ")]
    assert [line.split(" (")[0] for line in lines] == ["step 5 of 7"]


def test_alert_thresholds_note_the_steps_beyond_them(grpo, tmp_path):
    """The user's limits are exact."""
    callback = RLDKCallback(output_dir=tmp_path, alert_thresholds={"reward_std": -1})
    grpo([callback]).train()
    notes = [event.notes for event in events_of(callback, "metrics")]
    assert notes == [["High reward standard deviation detected"]] * 3


def test_checkpoints_are_recorded_unless_switched_off(grpo, tmp_path):
    """on_save tells where the checkpoint is and how large."""
    callback = RLDKCallback(output_dir=tmp_path / "a")
    grpo([callback], save_strategy="steps", save_steps=2, max_steps=2).train()
    (saved,) = events_of(callback, "checkpoint")
    assert saved.model_info["checkpoint"].endswith("checkpoint-2")
    assert saved.metrics["size_bytes"] > 1000
    callback = RLDKCallback(output_dir=tmp_path / "b", enable_checkpoint_analysis=False)
    grpo([callback], save_strategy="steps", save_steps=2, max_steps=2).train()
    assert events_of(callback, "checkpoint") == []


def test_resources_are_sampled_unless_switched_off(grpo, tmp_path, monkeypatch):
    """The samples are events of their own, and no rows of the table."""
    monkeypatch.setenv("RLDK_RESOURCE_INTERVAL_S", "0.01")
    callback = RLDKCallback(output_dir=tmp_path / "a")
    grpo([callback]).train()
    samples = events_of(callback, "resource")
    assert samples
    assert samples[0].metrics["process_rss_bytes"] > 0
    assert len(ingest_runs(callback.journal_path)) == 3
    callback = RLDKCallback(output_dir=tmp_path / "b", enable_resource_monitoring=False)
    grpo([callback]).train()
    assert events_of(callback, "resource") == []


def test_without_jsonl_logging_nothing_is_left_behind(grpo, tmp_path):
    """The journal is a temporary file that ends with the training."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk", enable_jsonl_logging=False)
    grpo([callback]).train()
    assert callback.errors == 0
    assert not callback.journal_path.parent.exists()
    assert not (tmp_path / "rldk").exists()


def test_one_callback_serves_one_training_after_another(grpo, tmp_path):
    """Each train() is a run of its own, unless the run_id is given."""
    callback = RLDKCallback(output_dir=tmp_path)
    grpo([callback]).train()
    first = callback.journal_path
    grpo([callback]).train()
    assert callback.journal_path != first
    assert len(ingest_runs(first)) == len(ingest_runs(callback.journal_path)) == 3


def test_each_training_of_one_callback_says_its_lines(grpo, tmp_path, caplog):
    """The count of steps begins anew."""
    callback = RLDKCallback(output_dir=tmp_path, log_interval=2)
    with caplog.at_level(logging.INFO, logger="rldk"):
        grpo([callback]).train()
        grpo([callback]).train()
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("step ")]
    assert [line.split(" (")[0] for line in lines] == ["step 2 of 3", "step 2 of 3"]


def test_training_that_raises_is_recorded_as_failed(grpo, tmp_path):
    """The next training, or the end of the process, closes what an exception left open."""

    def broken(completions, **_):
        raise ValueError(completions)

    callback = RLDKCallback(output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"\["):
        grpo([callback], reward=broken).train()
    failed = callback.journal_path
    grpo([callback]).train()
    last = [entry.event for entry in read(failed)][-1]
    assert (last.kind, last.model_info["status"]) == ("end", "FAILED")


def test_evaluation_outside_training_is_recorded_at_once(grpo, tmp_path):
    """trainer.evaluate() before training is a finished part of the run that follows."""
    callback = RLDKCallback(output_dir=tmp_path)
    trainer = grpo([callback], eval_rows=2)
    trainer.evaluate()
    assert events_of(callback)[-1].model_info["status"] == "FINISHED"
    before = callback.run_id
    trainer.train()
    table = ingest_runs(callback.journal_path)
    assert callback.run_id == before
    assert list(zip(table["step"], table["phase"], strict=True)) == [
        (0, "eval"),
        (1, "train"),
        (2, "train"),
        (3, "train"),
    ]
    trainer.evaluate()
    assert callback.run_id == before
    assert ingest_runs(callback.journal_path)["phase"].tolist().count("eval") == 2


def test_a_folder_that_changes_costs_nothing(grpo, tmp_path, monkeypatch):
    """The script may change its working folder in mid-run."""
    from transformers import TrainerCallback

    class Walker(TrainerCallback):
        """Changes the folder."""

        def on_step_begin(self, args, state, control, **kwargs):
            """Go elsewhere."""
            monkeypatch.chdir("/")

    monkeypatch.chdir(tmp_path)
    callback = RLDKCallback(output_dir="here")
    grpo([callback, Walker()]).train()
    assert len(ingest_runs(tmp_path / "here")) == 3


def test_two_processes_with_one_run_id_are_two_runs(grpo, tmp_path, caplog):
    """Neither mixes its lines into the other's journal, and neither loses any."""
    with Journal(tmp_path / "one_events.jsonl"):  # as another process would hold it
        callback = RLDKCallback(output_dir=tmp_path, run_id="one")
        grpo([callback]).train()
    assert callback.run_id.startswith("one-")
    assert "another process is writing it" in caplog.text
    assert ingest_runs(callback.journal_path)["step"].tolist() == [1, 2, 3]


def test_a_start_that_failed_is_not_tried_again(grpo, tmp_path):
    """One failure, and not one at every log."""
    (tmp_path / "file").write_text("")
    callback = RLDKCallback(output_dir=tmp_path / "file")
    grpo([callback], max_steps=5).train()
    assert callback.errors == 1


@pytest.mark.parametrize(
    "options",
    [
        {"log_interval": -1},
        {"log_interval": 1.5},
        {"run_id": 123},
        {"jsonl_log_interval": 0},
        {"alert_thresholds": {"kl": 1}},
        {"alert_thresholds": {"kl_divergence": "high"}},
        {"alert_thresholds": {"kl_divergence": float("nan")}},
    ],
)
def test_a_value_that_cannot_be_used_is_told_at_once(options):
    """The error comes from the constructor, before any training, and names the parameter."""
    with pytest.raises(SettingError, match=next(iter(options))):
        RLDKCallback(**options)


def test_a_tracker_that_is_not_known_is_told_at_once():
    """The error lists the trackers that are."""
    with pytest.raises(UnknownBridgeError, match="installed: mlflow, wandb"):
        RLDKCallback(trackers=["tensorbord"])
