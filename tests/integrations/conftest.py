"""Real trainers on a model that is made on the spot."""

from __future__ import annotations

import pytest

from rldk.demo import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A two-layer causal model's folder, and its tokenizer."""
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def grpo(tiny_model, tmp_path):
    """Make a real GRPOTrainer with some callbacks; options go to its GRPOConfig."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def make(callbacks, reward=lambda completions, **_: [float(len(c)) for c in completions], **options):
        model, tokenizer = tiny_model
        usual = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": 2,
            "num_generations": 2,
            "max_completion_length": 4,
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "disable_tqdm": True,
        }
        return GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=GRPOConfig(**(usual | options)),
            train_dataset=Dataset.from_dict({"prompt": ["good bad", "left right", "up down"] * 4}),
            processing_class=tokenizer,
            callbacks=callbacks,
        )

    return make
