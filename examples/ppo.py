"""PPO: TRL logs neither its loss nor its gradient norm; RLDK works out the one and measures the other.

python examples/ppo.py [FOLDER]      # needs a TRL that has PPO: pip install 'trl<=1.12.0'
"""

import sys

import tiny
import trl
from transformers import AutoModelForSequenceClassification

from rldk.errors import NoPPOError
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback, create_ppo_trainer

try:
    from trl.experimental.ppo import PPOConfig  # TRL 0.26 to 1.12.0
except ImportError:
    try:
        from trl import PPOConfig  # before
    except ImportError:
        sys.exit(f"ppo.py: {NoPPOError(trl.__version__)}")

folder = tiny.folder()
model, tokenizer = tiny.model(folder)
judge = AutoModelForSequenceClassification.from_pretrained(
    model, num_labels=1, pad_token_id=tokenizer.pad_token_id
)

callback = RLDKCallback(output_dir=folder / "rldk")
trainer = create_ppo_trainer(
    model,
    PPOConfig(
        output_dir=str(folder / "out"),
        response_length=8,
        total_episodes=256,
        **(tiny.TRAINING | {"max_steps": -1}),
    ),
    tiny.prompts(),
    callbacks=[callback],
    reward_model=judge,
    processing_class=tokenizer,
)
trainer.train()

table = ingest_runs(callback.journal_path)
columns = [
    "step",
    "reward_mean",
    "kl_seq_mean",
    "entropy_mean",
    "clip_frac",
    "loss",
    "value_loss",
    "grad_norm",
]
print(table[columns].tail(8).round(4).to_string(index=False))
print(f"\nIs it well?     rldk check {callback.journal_path}")
print(f"The whole run:  {folder}/rldk/{callback.run_id}_report.html")
