"""MLflow: mlflow.start_run() as you have it, and RLDK records into that run.

mlflow server --port 5000 &
MLFLOW_TRACKING_URI=http://127.0.0.1:5000 python examples/mlflow_server.py [FOLDER]
"""

import os
import sys

import mlflow
import tiny
from trl import GRPOConfig, GRPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

if "MLFLOW_TRACKING_URI" not in os.environ:
    sys.exit("mlflow_server.py: set MLFLOW_TRACKING_URI to your server, such as http://127.0.0.1:5000")

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

mlflow.set_experiment("rldk-examples")
with mlflow.start_run():
    trainer.train()

[delivery] = callback.reports
table = ingest_runs(delivery.home.source)  # from the server; the journal gives the same
print(table[["step", "reward_mean", "kl_mean", "grad_norm"]].tail(8).round(4).to_string(index=False))
print(f"\nThe charts, under rldk/:          {delivery.home.url}")
print("The verdict and the report there: tag rldk.health, artifact rldk/")
print(f"Anywhere else:                    rldk ingest {delivery.home.source}")
