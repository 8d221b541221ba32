"""What goes wrong in the trainer itself: callbacks and changes that put a fault in for real."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from benchmarks.health.rewards import FROM_STEP

if TYPE_CHECKING:
    from collections.abc import Callable


class Poison(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """Put a NaN into the weights while a step is done."""

    def __init__(self, part: str = "model.norm.weight") -> None:
        self._part = part

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ANN401
        """Before the step, in the loop of transformers."""
        del args, control
        if state.global_step + 1 == FROM_STEP:
            _poison(model, self._part)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ANN401
        """After the step before, in the loop of PPO, which knows no other moment."""
        del control
        if type(args).__name__ == "PPOConfig" and state.global_step + 1 == FROM_STEP:
            _poison(model, self._part)


class FasterFrom(TrainerCallback):  # type: ignore[misc]
    """Multiply the learning rate from some step on, as a wrong schedule does."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Before the step."""
        del args, control
        if state.global_step + 1 == FROM_STEP:
            scheduler = kwargs["lr_scheduler"]
            scheduler.base_lrs = [rate * self._factor for rate in scheduler.base_lrs]
            for group in kwargs["optimizer"].param_groups:
                group["lr"] *= self._factor


class Knock(TrainerCallback):  # type: ignore[misc]
    """Multiply some weights before one step, as a wrong restore or a flipped bit does."""

    def __init__(self, factor: float, part: str) -> None:
        self._factor = factor
        self._part = part

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ANN401
        """After the step before."""
        del args, control
        if state.global_step + 1 == FROM_STEP:
            with torch.no_grad():
                model.get_parameter(self._part).mul_(self._factor)


def never_ends(trainer: Any) -> None:  # noqa: ANN401  # a trainer of TRL
    """Suppress the end token, as a chat template without one does."""
    tokenizer = trainer.processing_class
    trainer.generation_config.suppress_tokens = [tokenizer.eos_token_id, tokenizer.pad_token_id]


def freeze(trainer: Any) -> None:  # noqa: ANN401
    """Freeze all weights but one that nothing depends on, as an adapter that was never switched on."""
    model = trainer.model
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003  # torch's signature
    model.unused = torch.nn.Parameter(torch.ones(1))
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: logits + 0 * model.unused)


class _Later(TrainerCallback):  # type: ignore[misc]
    """Do something to the trainer before some step."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """After the step before."""
        del args, control
        if state.global_step + 1 == FROM_STEP:
            self._act()


def raise_bonus(trainer: Any) -> None:  # noqa: ANN401
    """Let the entropy bonus become far too high, as a schedule with a slip does."""
    trainer.add_callback(_Later(lambda: setattr(trainer, "entropy_coef", 3.0)))


def scale_judge(trainer: Any) -> None:  # noqa: ANN401
    """Let PPO's rewards become a hundred times as large, as a normalisation that was lost does."""

    def scale() -> None:
        with torch.no_grad():
            trainer.reward_model.score.weight.mul_(100)

    trainer.add_callback(_Later(scale))


def _poison(model: Any, part: str) -> None:  # noqa: ANN401
    with torch.no_grad():
        model.get_parameter(part).view(-1)[-1] = math.nan
