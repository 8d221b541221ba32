"""GRPO: one callback records the run, and its folder tells how it went.

python examples/grpo.py [FOLDER]
"""

import tiny
from trl import GRPOConfig, GRPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

folder = tiny.folder()
model, tokenizer = tiny.model(folder)

callback = RLDKCallback(output_dir=folder / "rldk")
trainer = GRPOTrainer(
    model=model,
    reward_funcs=tiny.reward,
    args=GRPOConfig(output_dir=str(folder / "out"), **tiny.GRPO),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback],
)
trainer.train()

table = ingest_runs(callback.journal_path)  # <NA> was not measured: every second step samples nothing
columns = ["step", "reward_mean", "kl_mean", "entropy_mean", "clip_frac", "grad_norm", "tokens_out"]
print(table[columns].tail(8).round(4).to_string(index=False))
print(f"\nIs it well?     rldk check {callback.journal_path}")
print(f"The whole run:  {folder}/rldk/{callback.run_id}_report.html")
