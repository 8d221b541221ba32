"""A real training's journal holds its resources, by the names that rules and pages read."""

from __future__ import annotations

import sys

import pytest

from rldk.health.resources import UNITS
from rldk.journal import read

pytestmark = pytest.mark.real


def test_a_training_records_its_resources(tmp_path, monkeypatch):
    """Events of their own, with every number that this machine can measure, each with a unit."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from rldk.demo import build_tiny_model
    from rldk.integrations.trl import RLDKCallback

    monkeypatch.setenv("RLDK_RESOURCE_INTERVAL_S", "0.05")
    folder, tokenizer = build_tiny_model(tmp_path / "model")
    args = SFTConfig(
        str(tmp_path / "out"),
        max_steps=5,
        per_device_train_batch_size=2,
        save_strategy="no",
        max_length=16,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    callback = RLDKCallback(tmp_path / "rldk", trackers=None)
    data = Dataset.from_dict({"text": ["good bad left right"] * 10})
    model = AutoModelForCausalLM.from_pretrained(folder)
    SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[callback]).train()
    events = [entry.event for entry in read(callback.journal_path)]
    told = [event.metrics for event in events if event.kind == "resource"]
    assert callback.errors == 0
    assert told
    names = {name for metrics in told for name in metrics if not name.startswith("gpu")}
    host = {name for name in UNITS if not name.startswith("gpu")}
    assert names <= host
    assert {"process_rss_bytes", "host_memory_used_frac", "disk_used_frac"} <= names
    assert sys.platform != "linux" or "process_cpu_percent" in names
    assert told[0]["process_rss_bytes"] > 100 * 2**20  # torch alone takes as much
