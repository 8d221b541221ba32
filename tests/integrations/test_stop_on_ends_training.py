"""stop_on ends a training that has gone wrong: in order, with a checkpoint, and with where to go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from rldk.errors import SettingError, TrainingStoppedError
from rldk.health.rule import Rule, firing, ok
from rldk.integrations.trl import RLDKCallback
from rldk.journal import read

pytestmark = pytest.mark.real


class Poison(TrainerCallback):
    """Puts NaN into the first of the weights before a step."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        """Do so."""
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))


class FromStep(Rule):
    """Fires from a step on."""

    name = "from_step"
    title = "From a step on"
    advice = "wait"
    source = "this test"

    def __init__(self, step, severity="critical"):
        self.step = step
        self.severity = severity

    def judge(self, window):
        """Look at the step alone."""
        return firing(self.severity, "it is late", at=window.step) if window.step >= self.step else ok()


SAVED = {"max_steps": 40, "save_strategy": "steps", "save_steps": 5, "save_total_limit": 1}


def events_of(callback, kind):
    """The events of a kind in a callback's journal."""
    events = (entry.event for entry in read(callback.journal_path))
    return [event for event in events if event.kind == kind]


def end_of(callback):
    """What the end of a run tells."""
    (end,) = events_of(callback, "end")
    return end.model_info


def is_finite(folder):
    """Whether a checkpoint's weights are numbers, read without RLDK."""
    files = list(folder.glob("*.safetensors"))
    return bool(files) and all(
        tensor.isfinite().all() for file in files for tensor in load_file(file).values()
    )


def post_mortem(callback):
    """The text beside the journal."""
    (path,) = callback.journal_path.parent.glob("*_post_mortem.md")
    return path.read_text(encoding="utf-8")


def saved(folder):
    """The steps of the checkpoints in a folder."""
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


def test_after_a_nan_the_run_ends_by_itself_and_the_last_good_checkpoint_is_there(make_trainer, tmp_path):
    """At the step that shows it, saved, though one checkpoint was to be kept; it can go on from the good."""
    callback = RLDKCallback(stop_on="critical", run_id="bad")
    trainer = make_trainer("SFT", [callback, Poison(12)], **SAVED)
    trainer.train()
    out = tmp_path / "out"
    assert trainer.state.global_step == 13
    assert saved(out) == [10, 13]
    end = end_of(callback)
    assert (end["status"], end["stopped_by"]) == ("FAILED", "nonfinite@13")
    assert end["health"]["verdict"] == "critical"
    assert callback.errors == 0

    told = post_mortem(callback)
    (recommended,) = re.findall(r"From `(.*)` \(step 10\)", told)
    assert Path(recommended) == out / "checkpoint-10"
    assert is_finite(out / "checkpoint-10")
    assert not is_finite(out / "checkpoint-13")
    assert "The first bad step is 13." in told
    assert "(step 13): no, saved at the first bad step or after it" in told

    again = RLDKCallback(stop_on="critical")
    trainer = make_trainer("SFT", [again], **(SAVED | {"max_steps": 16}))
    trainer.train(resume_from_checkpoint=recommended)
    assert trainer.state.global_step == 16
    assert end_of_last(again)["status"] == "FINISHED"
    assert "stopped_by" not in end_of_last(again)


def end_of_last(callback):
    """What the newest end of a run that was gone on with tells."""
    return events_of(callback, "end")[-1].model_info


def test_without_a_checkpoint_before_it_says_so(make_trainer, tmp_path):
    """Nothing is recommended that is not good; what was saved at the stop is named and refused."""
    callback = RLDKCallback(stop_on="critical")
    make_trainer("SFT", [callback, Poison(2)], max_steps=20).train()
    assert saved(tmp_path / "out") == [3]
    told = post_mortem(callback)
    assert "No checkpoint can be recommended" in told
    assert "From `" not in told


def test_stop_on_is_off_by_default(make_trainer):
    """Training goes on to its end, whatever is said of it."""
    callback = RLDKCallback()
    trainer = make_trainer("SFT", [callback, Poison(2)], max_steps=5)
    trainer.train()
    assert trainer.state.global_step == 5
    end = end_of(callback)
    assert (end["status"], end["health"]["verdict"]) == ("FINISHED", "critical")
    assert "stopped_by" not in end
    assert not list(callback.journal_path.parent.glob("*_post_mortem.md"))


@pytest.mark.parametrize(("stop_on", "steps"), [("warning", 3), ("critical", 6)])
def test_only_what_is_as_bad_ends_it(make_trainer, stop_on, steps):
    """A warning does not, where critical was asked for."""
    callback = RLDKCallback(stop_on=stop_on, rules=FromStep(3, "warning"))
    trainer = make_trainer("SFT", [callback], max_steps=6)
    trainer.train()
    assert trainer.state.global_step == steps
    assert end_of(callback)["status"] == ("FAILED" if steps == 3 else "FINISHED")


def test_a_second_training_is_not_ended_for_what_the_first_was(make_trainer):
    """The same trainer and callback, trained again."""
    rule = FromStep(3)
    callback = RLDKCallback(stop_on="critical", rules=rule)
    trainer = make_trainer("SFT", [callback], max_steps=5)
    trainer.train()
    assert trainer.state.global_step == 3
    rule.step = 100
    trainer.train()
    assert trainer.state.global_step == 5
    assert end_of_last(callback)["status"] == "FINISHED"


def test_on_alert_hears_each_alert_and_cannot_hurt(make_trainer):
    """It gets the event as the journal holds it; what it raises is counted, and training goes on."""
    heard = []

    def hear(alert):
        heard.append(alert)
        message = "mine"
        raise RuntimeError(message)

    callback = RLDKCallback(rules=FromStep(3), on_alert=hear)
    trainer = make_trainer("SFT", [callback], max_steps=5)
    trainer.train()
    assert trainer.state.global_step == 5
    assert heard == events_of(callback, "alert")
    assert [(each.step, each.metrics) for each in heard] == [(3, {"from_step": 3})]
    assert callback.errors == 1


def test_a_severity_that_is_none_is_refused():
    """At once, and not in the middle of a training."""
    with pytest.raises(
        SettingError, match="stop_on='fatal' cannot be used; give one of info, warning, critical"
    ):
        RLDKCallback(stop_on="fatal")


@pytest.mark.filterwarnings("ignore:You are importing from .trl.experimental.:UserWarning")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning")
def test_ppo_is_ended_by_an_error_once_the_checkpoint_is_saved(make_trainer, tmp_path):
    """Its loop never looks whether it should stop."""
    callback = RLDKCallback(stop_on="critical", rules=FromStep(2))
    trainer = make_trainer("PPO", [callback], total_episodes=12, max_steps=-1, num_mini_batches=1)
    with pytest.raises(TrainingStoppedError, match=r"has stopped run .* From a step on: it is late"):
        trainer.train()
    assert trainer.state.global_step < 6
    (step,) = saved(tmp_path / "out")
    assert is_finite(tmp_path / "out" / f"checkpoint-{step}")
    end = end_of(callback)
    assert end["status"] == "FAILED"
    assert end["stopped_by"].startswith("from_step@")
    assert callback.errors == 0
    assert "# Post-mortem of run" in post_mortem(callback)


SCRIPT = textwrap.dedent("""
    import os
    from pathlib import Path
    import torch
    from datasets import Dataset
    from rldk.demo import build_tiny_model
    from rldk.integrations.trl import RLDKCallback
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 3:
                with torch.no_grad():
                    next(model.parameters()).fill_(float("nan"))

    rank = os.environ["RANK"]
    model, tokenizer = build_tiny_model(Path("model-" + rank))
    args = SFTConfig(
        output_dir="out", max_steps=12, logging_steps=1, save_steps=2, per_device_train_batch_size=2,
        use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, max_length=16, ddp_backend="gloo",
    )
    data = Dataset.from_dict({"text": ["good bad left", "right up down"] * 16})
    callback = RLDKCallback(stop_on="critical", run_id="both")
    trainer = SFTTrainer(
        model, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[callback, Poison()]
    )
    assert args.world_size == 2
    trainer.train()
    assert callback.errors == 0
    Path("rank-" + rank).write_text(str(trainer.state.global_step))
""")


def test_all_processes_stop_at_the_same_step(tmp_path):
    """The main process decides, and none waits for another."""
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "train.py"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["4", "4"]
    assert saved(tmp_path / "out") == [2, 4]
    events = [entry.event for entry in read(tmp_path / "out" / "rldk" / "both_events.jsonl")]
    assert events[-1].model_info["status"] == "FAILED"
    assert events[-1].model_info["stopped_by"] == "nonfinite@4"
