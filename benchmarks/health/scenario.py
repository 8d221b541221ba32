"""What is a scenario: a training run of some seconds, told as data, with or without a fault in it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from benchmarks.health import trainers, world

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.health.world import Rows, World

_TRAIN_ROWS: Final = 320
_EVAL_ROWS: Final = 200
_EVAL_SEED: Final = 10_000
_ROWS: Final[dict[str, Callable[[int, int], Rows]]] = {
    "SFT": world.lessons,
    "DPO": world.preferences,
    "KTO": world.judgements,
    "Reward": lambda count, seed: world.compared(world.preferences(count, seed)),
}


class Scenario(NamedTuple):
    """A run: which trainer on what, and what is wrong with it.

    Attributes:
        name: Its name, which also begins the name of its journals.
        trainer: Short name of the trainer.
        story: What is particular about it; of a fault: what was put in.
        rules: The rules that name the fault, any of them; none where the run is healthy.
        at: The first step that the fault is in; 0 where it is there from the start.
        options: Arguments of the trainer's config.
        rows: What is trained on, given a number of rows and a seed; by default the trainer's usual.
        eval_rows: What is evaluated on; by default the trainer's usual.
        evaluates: Whether it is evaluated at all.
        train_rows: How many rows are trained on.
        reward: The reward functions, or for PPO the name of the world's judge.
        start: Which model of the world it starts from.
        faults: Makes the callbacks that put the fault in.
        prepare: Puts the fault into the trainer before it trains.
    """

    name: str
    trainer: str
    story: str
    rules: tuple[str, ...] = ()
    at: int = 0
    options: Mapping[str, Any] = {}
    rows: Callable[[int, int], Rows] | None = None
    eval_rows: Callable[[int, int], Rows] | None = None
    evaluates: bool = False
    train_rows: int = _TRAIN_ROWS
    reward: Any = None
    start: str = "model"
    faults: Callable[[], Sequence[Any]] = tuple
    prepare: Callable[[Any], None] | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.rules


def train(scenario: Scenario, from_: World, folder: Path, seed: int, callbacks: Sequence[Any]) -> None:
    """Train it for real; what the trainer raises comes out."""
    random.seed(seed)
    torch.manual_seed(seed)
    usual = _ROWS.get(scenario.trainer, world.prompts)
    trainer = trainers.build(
        scenario.trainer,
        from_._replace(model=getattr(from_, scenario.start)),
        folder,
        (scenario.rows or usual)(scenario.train_rows, seed),
        [*scenario.faults(), *callbacks],
        reward=scenario.reward if scenario.trainer != "PPO" else getattr(from_, scenario.reward or "judge"),
        eval_rows=(scenario.eval_rows or usual)(_EVAL_ROWS, seed + _EVAL_SEED)
        if scenario.evaluates
        else None,
        seed=seed,
        **scenario.options,
    )
    if scenario.prepare:
        scenario.prepare(trainer)
    trainer.train()
