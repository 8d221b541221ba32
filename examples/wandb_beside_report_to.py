"""W&B as you have it, report_to=["wandb"], and RLDK in the same run, beside it.

python examples/wandb_beside_report_to.py [FOLDER]      # offline; WANDB_MODE=online for your account
"""

import os

import tiny
import wandb
from trl import GRPOConfig, GRPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

folder = tiny.folder()
model, tokenizer = tiny.model(folder)
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_DIR", str(folder))

callback = RLDKCallback(output_dir=folder / "rldk")  # finds the run that report_to opens
trainer = GRPOTrainer(
    model=model,
    reward_funcs=tiny.reward,
    args=GRPOConfig(output_dir=str(folder / "out"), **(tiny.GRPO | {"report_to": ["wandb"]})),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback],
)
trainer.train()
wandb.finish()

[delivery] = callback.reports
here, there = ingest_runs(callback.journal_path), ingest_runs(delivery.home.source)
print(f"\nrun {callback.run_id}: train/reward is TRL's, rldk/reward_mean is RLDK's, and so on")
print(f"read back from W&B: {len(there)} steps, as in the journal: {here.equals(there)}")
print(f"\nThe run:      {delivery.home.source}")
print(f"Into MLflow:  rldk sync {delivery.home.source} --to mlflow")
