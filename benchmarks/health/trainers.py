"""How is each of TRL's trainers made for a run of some seconds?"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PrinterCallback

from rldk.integrations.trl.ppo import create_ppo_trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.health.world import Rows, World

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # or the mere import of an experimental trainer warns

STEPS: Final = 60
_HOMES: Final = {"OnlineDPO": "trl.experimental.online_dpo", "PPO": "trl.experimental.ppo"}
_USUAL: Final = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "save_strategy": "no",
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "disable_tqdm": True,
}
_GENERATE: Final = {"num_generations": 4, "max_completion_length": 16, "learning_rate": 2e-3}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "GRPO": _GENERATE,
    "RLOO": {**_GENERATE, "beta": 0.02},
    "OnlineDPO": {"max_new_tokens": 16, "max_length": 32, "learning_rate": 1e-3},
    "PPO": {
        "response_length": 16,
        "num_sample_generations": 0,
        "stop_token": "eos",
        "learning_rate": 1e-3,
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "kl_coef": 0.05,
        "missing_eos_penalty": 0.2,
    },
    "KTO": {"max_length": 32, "learning_rate": 1e-3},
    "DPO": {"max_length": 32, "learning_rate": 1e-3},
    "SFT": {"max_length": 32, "learning_rate": 1e-2},
    "Reward": {"max_length": 32, "learning_rate": 3e-3, "max_steps": 80},
}

Trainer = Any


def build(  # a trainer takes as much
    name: str,
    world: World,
    folder: Path,
    rows: Rows,
    callbacks: Sequence[Any],
    *,
    reward: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    eval_rows: Rows | None = None,
    **options: object,
) -> Trainer:
    """Make a trainer by its short name; options go to its config."""
    usual: dict[str, Any] = {"output_dir": str(folder)} | _USUAL | _OPTIONS[name]
    if eval_rows is not None:
        usual |= {"eval_strategy": "steps", "eval_steps": 5}
    if name == "PPO":
        usual["total_episodes"] = int(usual["per_device_train_batch_size"]) * int(
            options.pop("max_steps", STEPS)
        )  # type: ignore[call-overload]
        usual.pop("max_steps")
    config = _found(f"{name}Config")(**(usual | options))
    extra = {} if eval_rows is None else {"eval_dataset": Dataset.from_dict(eval_rows)}
    trainer = _made(name, world, config, Dataset.from_dict(rows), list(callbacks), reward, extra)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _made(
    name: str,
    world: World,
    config: object,
    data: Dataset,
    callbacks: list[Any],
    reward: object,
    extra: dict[str, Any],
) -> Trainer:
    if name == "PPO":
        return create_ppo_trainer(
            world.model,
            config,
            data,
            callbacks,
            processing_class=world.tokenizer,
            reward_model=reward,
            value_model=_classifier(world),
            **extra,
        )
    common = {
        "args": config,
        "train_dataset": data,
        "processing_class": world.tokenizer,
        "callbacks": callbacks,
    }
    common |= extra
    trainer = _found(f"{name}Trainer")
    if name in {"GRPO", "RLOO"}:
        return trainer(world.model, reward_funcs=reward, **common)
    if name == "OnlineDPO":
        return trainer(_causal(world), ref_model=_causal(world), reward_funcs=reward, **common)
    if name == "Reward":
        return trainer(_classifier(world), **common)
    reference = {"ref_model": _causal(world)} if name in {"DPO", "KTO"} else {}
    return trainer(_causal(world), **reference, **common)


def is_installed(name: str) -> bool:
    """Whether the installed TRL has this trainer."""
    try:
        _found(f"{name}Config")
    except (ImportError, AttributeError):
        return False
    return True


def _found(name: str) -> Any:  # noqa: ANN401  # a class of TRL
    trainer = name.removesuffix("Trainer").removesuffix("Config")
    return getattr(importlib.import_module(_HOMES.get(trainer, "trl")), name)


def _causal(world: World) -> Any:  # noqa: ANN401
    return AutoModelForCausalLM.from_pretrained(world.model)


def _classifier(world: World) -> Any:  # noqa: ANN401
    return AutoModelForSequenceClassification.from_pretrained(
        world.model, num_labels=1, pad_token_id=world.tokenizer.pad_token_id
    )
