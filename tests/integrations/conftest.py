"""Real trainers on a model that is made on the spot: each of the eight, where the installed TRL has it."""

from __future__ import annotations

import importlib
import os

import pytest

from rldk.demo import build_tiny_model

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # or the mere import of an experimental trainer warns

TEXTS = ["good bad", "left right", "up down", "one two"] * 4
DATA = {
    "SFT": {"text": [f"{text} yes" for text in TEXTS]},
    "DPO": {"prompt": TEXTS, "chosen": [" good"] * 16, "rejected": [" bad"] * 16},
    "Reward": {"chosen": [f"{text} good" for text in TEXTS], "rejected": [f"{text} bad" for text in TEXTS]},
    "KTO": {"prompt": TEXTS, "completion": [" good", " bad"] * 8, "label": [True, False] * 8},
    **{name: {"prompt": TEXTS} for name in ("GRPO", "RLOO", "OnlineDPO", "PPO")},
}
OPTIONS = {
    "GRPO": {"num_generations": 2, "max_completion_length": 4},
    "RLOO": {"num_generations": 2, "max_completion_length": 4},
    "OnlineDPO": {"max_new_tokens": 4, "max_length": 32},
    "PPO": {"response_length": 4, "num_sample_generations": 0, "total_episodes": 6},
    "KTO": {"max_length": 32},
    "DPO": {"max_length": 32},
    "SFT": {"max_length": 32},
    "Reward": {"max_length": 32},
}
HOMES = {"OnlineDPO": ("trl.experimental.online_dpo", "trl"), "PPO": ("trl.experimental.ppo", "trl")}


def find(name):
    """Find a class of TRL wherever the installed release keeps it; None where it has none."""
    trainer = name.removesuffix("Trainer").removesuffix("Config")
    for home in HOMES.get(trainer, ("trl",)):
        try:
            return getattr(importlib.import_module(home), name)
        except (ImportError, AttributeError):
            continue
    return None


def length(completions, **_):
    """Reward: the number of characters."""
    return [float(len(text)) for text in completions]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A two-layer causal model's folder, and its tokenizer."""
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def make_trainer(tiny_model, tmp_path):
    """Make a real trainer by its short name; options go to its config. Skips where TRL has none."""

    def make(name, callbacks, *, reward=length, rows=None, eval_rows=None, **options):
        config = find(f"{name}Config")
        if config is None:
            pytest.skip(f"the installed TRL has no {name}Trainer")
        usual = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 2,
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "disable_tqdm": True,
        }
        args = config(**(usual | OPTIONS[name] | options))
        data = dataset(rows or DATA[name])
        extra = {} if eval_rows is None else {"eval_dataset": data.select(range(eval_rows))}
        return build(name, tiny_model, args, data, callbacks, reward, extra)

    return make


def build(name, tiny_model, args, data, callbacks, reward, extra):
    """Call the trainer's constructor with what this one wants."""
    folder, tokenizer = tiny_model
    if name == "PPO":
        from rldk.integrations.trl import create_ppo_trainer

        return create_ppo_trainer(folder, args, data, callbacks, processing_class=tokenizer, **extra)
    common = {"args": args, "train_dataset": data, "processing_class": tokenizer, "callbacks": callbacks}
    common |= extra
    trainer = find(f"{name}Trainer")
    if name in {"GRPO", "RLOO"}:
        return trainer(folder, reward_funcs=reward, **common)
    if name == "OnlineDPO":
        return trainer(causal(folder), ref_model=causal(folder), reward_funcs=reward, **common)
    if name == "Reward":
        return trainer(classifier(folder, tokenizer), **common)
    reference = {"ref_model": causal(folder)} if name in {"DPO", "KTO"} else {}
    return trainer(causal(folder), **reference, **common)


def dataset(rows):
    """Make a dataset of columns."""
    from datasets import Dataset

    return Dataset.from_dict(rows)


def causal(folder):
    """Load the model with its language-model head."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def classifier(folder, tokenizer):
    """Load the model with a head for one score."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, pad_token_id=tokenizer.pad_token_id
    )


@pytest.fixture
def grpo(make_trainer):
    """Make a real GRPOTrainer."""

    def make(callbacks, **options):
        return make_trainer("GRPO", callbacks, **options)

    return make
