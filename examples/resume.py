"""Killed in mid-training and resumed: one run, one journal, each step once.

python examples/resume.py [FOLDER]
"""

import os
import signal
import subprocess
import sys

import tiny
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

IS_FIRST = "--first" in sys.argv


class PullsThePlug(TrainerCallback):
    """Kills the process at step 20, as a machine that goes down would."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Kill it."""
        if state.global_step == 20:
            os.kill(os.getpid(), signal.SIGKILL)


folder = tiny.folder()
if not IS_FIRST:
    first = subprocess.run([sys.executable, __file__, str(folder), "--first"], check=False)
    print(f"the first start was ended by signal {-first.returncode}")

model, tokenizer = tiny.model(folder)
callback = RLDKCallback(output_dir=folder / "rldk")
trainer = GRPOTrainer(
    model=model,
    reward_funcs=tiny.reward,
    args=GRPOConfig(
        output_dir=str(folder / "out"), **(tiny.GRPO | {"save_strategy": "steps", "save_steps": 8})
    ),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback, *([PullsThePlug()] if IS_FIRST else [])],
)
trainer.train(resume_from_checkpoint=None if IS_FIRST else get_last_checkpoint(folder / "out"))

everything = ingest_runs(folder / "rldk", attempts="all")
print(f"\none run, {callback.run_id}, whose training began twice:")
print(everything.groupby(["run_id", "segment"])["step"].agg(["min", "max"]).to_string())
steps = ingest_runs(folder / "rldk")["step"].tolist()
print(f"its table has each step once: {steps}")
