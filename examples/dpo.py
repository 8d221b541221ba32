"""DPO: the same callback; what it records are the preferences.

python examples/dpo.py [FOLDER]
"""

import tiny
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

folder = tiny.folder()
model, tokenizer = tiny.model(folder)
data = tiny.preferences().train_test_split(test_size=16, seed=42)

callback = RLDKCallback(output_dir=folder / "rldk")
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(model),
    ref_model=AutoModelForCausalLM.from_pretrained(model),
    args=DPOConfig(
        output_dir=str(folder / "out"),
        beta=0.1,
        max_length=16,
        eval_strategy="steps",
        eval_steps=16,
        **tiny.TRAINING,
    ),
    train_dataset=data["train"],
    eval_dataset=data["test"],
    processing_class=tokenizer,
    callbacks=[callback],
)
trainer.train()

table = ingest_runs(callback.journal_path)  # evaluations are rows of their own: phase eval
columns = ["step", "phase", "loss", "pref_accuracy", "reward_margin", "implicit_reward_chosen", "grad_norm"]
print(table[columns].tail(8).round(4).to_string(index=False))
print(f"\nIs it well?     rldk check {callback.journal_path}")
print(f"The whole run:  {folder}/rldk/{callback.run_id}_report.html")
