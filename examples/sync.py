"""The tracker is down while you train: nothing is lost, and `rldk sync` delivers it later.

python examples/sync.py [FOLDER]
"""

import os
import subprocess
import sys

import tiny
from trl import GRPOConfig, GRPOTrainer

from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

folder = tiny.folder()
model, tokenizer = tiny.model(folder)
os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # nobody listens there
os.environ["RLDK_CLOSE_DEADLINE_S"] = "1"  # how long the end of training waits for it; usually 30 seconds

callback = RLDKCallback(output_dir=folder / "rldk", trackers=["mlflow"])
GRPOTrainer(
    model=model,
    reward_funcs=tiny.reward,
    args=GRPOConfig(output_dir=str(folder / "out"), **tiny.GRPO),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback],
).train()
[delivery] = callback.reports
print(f"\n{delivery.waiting} events wait in {callback.journal_path}: {delivery.reasons[0][:60]}...")

# The tracker is up again; in place of the server a database in a file will do.
database = f"sqlite:///{folder}/mlflow.db"
environment = os.environ | {"MLFLOW_TRACKING_URI": database}
command = [sys.executable, "-m", "rldk", "sync", str(callback.journal_path), "--to", "mlflow"]
print(f"\n$ {' '.join(['rldk', *command[3:]])}")
subprocess.run(command, check=True, env=environment, cwd=folder)

here, there = ingest_runs(callback.journal_path), ingest_runs(database)
print(f"\nMLflow has {len(there)} steps, with the numbers of the journal: {here.equals(there)}")
print(f"Point for point: rldk verify {callback.journal_path} {database}")
