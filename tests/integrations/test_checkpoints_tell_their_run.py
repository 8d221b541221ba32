"""A checkpoint knows its run, wherever it is copied to, and one that does not is no trouble."""

from __future__ import annotations

import json
import shutil

import pytest

from rldk.ingest import ingest_runs
from rldk.integrations.trl import EventWriterCallback, RLDKCallback
from rldk.journal import read

pytestmark = pytest.mark.real


def mlflow_at(folder):
    """Have MLflow write into a database in the folder, until the test is over."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(autouse=True)
def _mlflow_is_left_as_it_was():
    """MLflow's setting is the whole process's."""
    yield
    import mlflow

    mlflow.set_tracking_uri(None)


def first_life(make_trainer, callbacks, **options):
    """Train four steps with a checkpoint at the second; gives the checkpoint."""
    trainer = make_trainer("SFT", callbacks, save_strategy="steps", save_steps=2, max_steps=4, **options)
    trainer.train()
    return f"{trainer.args.output_dir}/checkpoint-2"


def resume(make_trainer, callbacks, checkpoint, folder):
    """Go on from a checkpoint, elsewhere."""
    trainer = make_trainer("SFT", callbacks, max_steps=6, output_dir=str(folder))
    trainer.train(resume_from_checkpoint=str(checkpoint))


def test_a_copied_checkpoint_continues_its_run_elsewhere(make_trainer, tmp_path):
    """Another machine has no journal: the id, the count of starts and the run's time go on."""
    before = RLDKCallback()
    checkpoint = first_life(make_trainer, [before])
    shutil.copytree(checkpoint, tmp_path / "elsewhere")
    after = RLDKCallback()
    resume(make_trainer, [after], tmp_path / "elsewhere", tmp_path / "other")
    began = next(read(after.journal_path)).event
    assert after.run_id == before.run_id
    assert (began.segment, began.step, began.run_id) == (1, 2, before.run_id)
    assert began.wall_time > 0
    assert ingest_runs(after.journal_path)["step"].tolist() == [3, 4, 5, 6]


def test_a_checkpoint_without_rldk_begins_a_run(make_trainer, tmp_path):
    """RLDK can be added to a training that is resumed."""
    checkpoint = first_life(make_trainer, [])
    callback = RLDKCallback()
    resume(make_trainer, [callback], checkpoint, tmp_path / "other")
    assert callback.errors == 0
    assert ingest_runs(callback.journal_path)["step"].tolist() == [3, 4, 5, 6]


def test_both_callbacks_agree_on_the_run(make_trainer, tmp_path):
    """Whichever comes first in the list."""
    for number, order in enumerate([1, -1]):
        long, wide = EventWriterCallback(tmp_path / f"{number}.jsonl"), RLDKCallback(tmp_path / str(number))
        make_trainer("SFT", [long, wide][::order]).train()
        assert long.run_id == wide.run_id


def test_a_shared_file_does_not_mix_up_runs(make_trainer, tmp_path):
    """The checkpoint tells whose run is resumed, not the last line of a file of many runs."""
    shared = tmp_path / "all.jsonl"
    first = EventWriterCallback(shared)
    checkpoint = first_life(make_trainer, [first])
    make_trainer("SFT", [EventWriterCallback(shared)], output_dir=str(tmp_path / "b")).train()
    resumed = EventWriterCallback(shared)
    resume(make_trainer, [resumed], checkpoint, tmp_path / "c")
    assert resumed.run_id == first.run_id


def test_the_record_is_in_trainer_state_json(make_trainer):
    """Other tools can read which run a checkpoint is of."""
    callback = RLDKCallback()
    checkpoint = first_life(make_trainer, [callback])
    with open(f"{checkpoint}/trainer_state.json") as file:  # noqa: PTH123
        record = json.load(file)["stateful_callbacks"]["rldk"]
    assert record["attributes"]["run_id"] == callback.run_id


def test_a_second_training_under_one_tracker_run_is_not_mixed_with_the_first(make_trainer, tmp_path):
    """SFT and then DPO in one run: the table is DPO's, and every attempt is there on request."""
    first = RLDKCallback(tmp_path / "rldk", run_id="one")
    make_trainer("SFT", [first], max_steps=5).train()
    second = RLDKCallback(tmp_path / "rldk", run_id="one")
    make_trainer("DPO", [second], max_steps=3).train()
    table = ingest_runs(second.journal_path)
    assert table["step"].tolist() == [1, 2, 3]
    assert table["pref_accuracy"].notna().all()
    assert len(ingest_runs(second.journal_path, attempts="all")) == 8


def test_a_later_evaluation_leaves_the_training_as_it_is(make_trainer, tmp_path):
    """A new trainer that only evaluates, under the same run: in the journal, and in MLflow."""
    train, evaluate = (RLDKCallback(tmp_path / "rldk", run_id="one", trackers=["mlflow"]) for _ in range(2))
    mlflow_at(tmp_path)
    make_trainer("SFT", [train], max_steps=3).train()
    make_trainer("SFT", [evaluate], eval_rows=4).evaluate()
    (report,) = evaluate.reports
    for home in (evaluate.journal_path, report.home.source):
        table = ingest_runs(home)
        assert list(zip(table["step"], table["phase"], strict=True)) == [
            (0, "eval"),
            (1, "train"),
            (2, "train"),
            (3, "train"),
        ]


def test_a_callback_added_later_and_profiling_rows_change_nothing(make_trainer, tmp_path, monkeypatch):
    """TRL writes its own timings past the callbacks; what RLDK records is what on_log was given."""
    monkeypatch.chdir(tmp_path)
    mlflow_at(tmp_path)
    callback = RLDKCallback()
    trainer = make_trainer("GRPO", [], report_to=["mlflow"])
    trainer.add_callback(callback)
    trainer.train()
    table = ingest_runs(callback.journal_path)
    assert table["step"].tolist() == [1, 2, 3]
    assert not [name for name in table.columns if "profiling" in name or "Time taken" in name]
    (report,) = callback.reports
    assert len(ingest_runs(report.home.source)) == 3
