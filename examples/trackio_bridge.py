"""A tracker that RLDK does not know: a bridge from a package of its own takes the run there and back.

pip install ./examples/rldk-trackio
python examples/trackio_bridge.py [FOLDER]
"""

import os
import sys
import tempfile

# trackio reads it once, when it is imported, which TRL does
os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp(prefix="rldk-trackio-"))

import tiny
from trl import GRPOConfig, GRPOTrainer

from rldk import bridge
from rldk.ingest import ingest_runs
from rldk.integrations.trl import RLDKCallback

if "trackio" not in bridge.sinks():
    sys.exit("trackio_bridge.py: run: pip install ./examples/rldk-trackio")

folder = tiny.folder()
model, tokenizer = tiny.model(folder)

callback = RLDKCallback(output_dir=folder / "rldk", trackers=["trackio"])
trainer = GRPOTrainer(
    model=model,
    reward_funcs=tiny.reward,
    args=GRPOConfig(output_dir=str(folder / "out"), **tiny.GRPO),
    train_dataset=tiny.prompts(),
    processing_class=tokenizer,
    callbacks=[callback],
)
trainer.train()

[delivery] = callback.reports
here, there = ingest_runs(callback.journal_path), ingest_runs(delivery.home.source)
print(f"\ntrackio has {len(there)} steps, with the numbers of the journal: {here.equals(there)}")
print(f"Its charts:    TRACKIO_DIR={os.environ['TRACKIO_DIR']} trackio show --project rldk")
print(f"Anywhere else: rldk ingest '{delivery.home.source}'")
