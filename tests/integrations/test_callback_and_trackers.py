"""Whatever state the trackers are in, training ends normally and the journal is whole."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import mlflow
import pytest
import wandb

from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _a_place_of_its_own(tmp_path, monkeypatch):
    """Trackers write below tmp_path, and no run of another test is active."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    wandb.teardown()
    mlflow.set_tracking_uri(None)


def is_whole(callback, steps=3):
    """Whether the journal has every step and the end."""
    table = ingest_runs(callback.journal_path)
    return table["step"].tolist() == list(range(1, steps + 1)) and callback.errors == 0


def test_auto_takes_the_runs_that_are_active(grpo):
    """Both trackers get the run whose id is the W&B run's, and give it back."""
    run = wandb.init(project="p")
    mlflow.start_run()
    callback = RLDKCallback()
    grpo([callback]).train()
    run.finish()
    assert callback.run_id == run.id
    journal = ingest_runs(callback.journal_path)
    for report in callback.reports:
        assert report.waiting == report.rejected == 0
        assert set(differing_cells(journal, ingest_runs(report.home.source)).values()) == {0}
    assert [report.tracker for report in callback.reports] == ["mlflow", "wandb"]


def test_without_wandb_the_run_is_named_by_mlflow(grpo):
    """The MLflow run's id is the run_id where no W&B run is active."""
    active = mlflow.start_run()
    callback = RLDKCallback()
    grpo([callback]).train()
    assert callback.run_id == active.info.run_id
    assert [report.tracker for report in callback.reports] == ["mlflow"]


def test_a_given_run_id_wins(grpo):
    """The argument comes before any tracker's id, and is made safe as a file name."""
    mlflow.start_run()
    callback = RLDKCallback(run_id="../my run")
    grpo([callback]).train()
    assert callback.run_id.startswith("_my_run-")
    assert callback.journal_path.is_file()


def test_auto_without_an_active_run_writes_the_journal_alone(grpo, tmp_path):
    """Installed trackers without a run are left alone."""
    callback = RLDKCallback()
    grpo([callback]).train()
    assert is_whole(callback)
    assert callback.reports == []
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "wandb").exists()


def test_none_leaves_active_runs_alone(grpo):
    """With trackers=None an active run names the run and receives nothing."""
    active = mlflow.start_run()
    callback = RLDKCallback(trackers=None)
    grpo([callback]).train()
    assert is_whole(callback)
    assert mlflow.get_run(active.info.run_id).data.metrics == {}


def test_named_trackers_open_runs_of_their_own(grpo):
    """Without an active run, each opens one that carries the RLDK run_id."""
    callback = RLDKCallback(trackers=["mlflow", "wandb"])
    grpo([callback]).train()
    assert is_whole(callback)
    for report in callback.reports:
        assert report.waiting == 0
        assert set(ingest_runs(report.home.source)["run_id"]) == {callback.run_id}
    assert wandb.run is None
    assert mlflow.active_run() is None


def test_a_disabled_wandb_run_is_no_tracker(grpo):
    """W&B with mode="disabled" neither names the run nor receives anything."""
    run = wandb.init(mode="disabled")
    callback = RLDKCallback()
    grpo([callback]).train()
    assert is_whole(callback)
    assert callback.reports == []
    assert callback.run_id != run.id


def test_an_mlflow_server_that_is_down_costs_the_deadline_at_most(grpo, monkeypatch, free_port):
    """Training ends, the journal is whole, and what did not arrive is counted."""
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("RLDK_CLOSE_DEADLINE_S", "2")
    callback = RLDKCallback(trackers=["mlflow"], enable_resource_monitoring=False)
    trainer = grpo([callback])
    trainer.train()
    assert is_whole(callback)
    (report,) = callback.reports
    assert (report.delivered, report.waiting) == (0, 5)
    assert "Connection refused" in report.reasons[0]


def test_a_wandb_run_that_ends_in_mid_training_costs_nothing(grpo):
    """Somebody else's finish() leaves the rest undelivered, counted, and in the journal."""
    from transformers import TrainerCallback

    class Finisher(TrainerCallback):
        """Finishes the W&B run after the first step."""

        def on_step_end(self, args, state, control, **kwargs):
            """Finish it."""
            wandb.finish()

    wandb.init(project="p")
    callback = RLDKCallback(enable_resource_monitoring=False)
    grpo([callback, Finisher()]).train()
    assert is_whole(callback)
    (report,) = callback.reports
    assert report.delivered + report.waiting == 5
    assert not report.is_closed


def test_without_any_tracker_installed_the_journal_is_written(tmp_path):
    """A machine without MLflow and W&B runs the same script."""
    program = textwrap.dedent("""
        import sys
        sys.modules["mlflow"] = sys.modules["wandb"] = None  # as if not installed
        from transformers import TrainerState, TrainingArguments
        from rldk.integrations.trl import RLDKCallback
        callback = RLDKCallback(output_dir="here", run_id="r")
        args = TrainingArguments(output_dir="out", use_cpu=True)
        state = TrainerState(global_step=1, max_steps=1)
        callback.on_train_begin(args, state, None)
        callback.on_log(args, state, None, logs={"loss": 1.0})
        callback.on_train_end(args, state, None)
        assert callback.errors == 0
    """)
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, check=True)
    assert len(ingest_runs(tmp_path / "here" / "r_events.jsonl")) == 1
