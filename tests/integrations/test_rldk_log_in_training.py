"""What a reward function gives to rldk.log is in the row of the step, or the evaluation, that called it."""

from __future__ import annotations

import threading

import pytest
from transformers import TrainerCallback

import rldk
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback
from rldk.journal import read

pytestmark = pytest.mark.real


def test_training_and_evaluation_keep_apart(make_trainer, tmp_path):
    """Between evaluations, before them and at the start; a batch that is trained on twice is scored once."""
    is_training = {}

    def reward(completions, **_):
        now = trainer.model.training
        is_training[now] = is_training.get(now, 0) + 1
        rldk.log({"is_training": now, "calls": is_training[now]})
        return [float(len(text)) for text in completions]

    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    options = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "num_iterations": 2}
    trainer = make_trainer("GRPO", [callback], reward=reward, eval_rows=4, max_steps=6, **options)
    trainer.train()
    table = ingest_runs(callback.journal_path)
    scored = table[table["is_training"].notna()]
    assert callback.errors == 0
    assert scored.loc[scored["phase"] == "train", "step"].tolist() == [1, 3, 5]
    assert scored.loc[scored["phase"] == "eval", "step"].tolist() == [0, 2, 4, 6]
    assert ((scored["phase"] == "train") == (scored["is_training"] == 1)).all()
    assert scored.loc[scored["phase"] == "train", "calls"].tolist() == [1, 2, 3]


def test_another_thread_and_another_callback_may_log(make_trainer, tmp_path):
    """What is left when training ends is recorded too, and afterwards nothing is."""

    class Other(TrainerCallback):
        """Logs of itself, and has a thread log."""

        def on_step_end(self, args, state, control, **kwargs):
            """Log the step."""
            rldk.log({"mine": state.global_step})
            thread = threading.Thread(target=rldk.log, args=({"threads": 1}, state.global_step))
            thread.start()
            thread.join()

    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    make_trainer("SFT", [Other(), callback], max_steps=3, logging_steps=2).train()
    rldk.log({"late": 1.0})
    table = ingest_runs(callback.journal_path).set_index("step")
    assert table["mine"].dropna().to_dict() == {2: 2, 3: 3}
    assert table["threads"].dropna().to_dict() == {1: 1, 2: 1, 3: 1}
    assert "late" not in table


def test_an_evaluation_that_another_callback_calls_off(make_trainer, tmp_path):
    """What the next step logs is training's."""

    class CallsOff(TrainerCallback):
        """Takes back what the trainer's own callback has ordered."""

        def on_step_end(self, args, state, control, **kwargs):
            """Do so."""
            control.should_evaluate = False

    def reward(completions, **_):
        rldk.log({"calls": 1.0})
        return [float(len(text)) for text in completions]

    callback = RLDKCallback(output_dir=tmp_path / "rldk")
    options = {"eval_strategy": "steps", "eval_steps": 1, "eval_rows": 4, "max_steps": 3}
    make_trainer("GRPO", [callback, CallsOff()], reward=reward, **options).train()
    table = ingest_runs(callback.journal_path)
    assert set(table["phase"]) == {"train"}
    assert table["calls"].notna().all()


class Orders(TrainerCallback):
    """Has the trainer evaluate after each step, in one of three ways."""

    def __init__(self, how):
        self.how, self.trainer = how, None

    def on_step_end(self, args, state, control, **kwargs):
        """Order it, or evaluate at once."""
        control.should_evaluate = self.how in {"order", "several"}
        if self.how == "at once":
            self.trainer.evaluate()


@pytest.mark.parametrize("how", ["order", "at once", "several"])
def test_an_evaluation_that_a_later_callback_orders(make_trainer, tmp_path, how):
    """From its first batch on; of several data sets, each of them."""

    def reward(completions, **_):
        rldk.log({"is_training": trainer.model.training})
        rldk.log({f"calls_{trainer.model.training}": 1.0})
        return [float(len(text)) for text in completions]

    callback, orders = RLDKCallback(output_dir=tmp_path / "rldk"), Orders(how)
    trainer = make_trainer("GRPO", [callback, orders], reward=reward, eval_rows=2, max_steps=2)
    orders.trainer = trainer
    if how == "several":
        trainer.eval_dataset = dict.fromkeys(("one", "two"), trainer.eval_dataset)
    trainer.train()
    events = [entry.event for entry in read(callback.journal_path)]
    rows = [(event.phase, event.metrics) for event in events if event.kind == "metrics"]
    assert callback.errors == 0
    assert sum(phase == "eval" for phase, _ in rows) == (4 if how == "several" else 2)
    scored = [(phase, told["is_training"]) for phase, told in rows if "is_training" in told]
    assert all((phase == "train") == is_training for phase, is_training in scored)
    assert all(("calls_False" in told) == (phase == "eval") for phase, told in rows)
