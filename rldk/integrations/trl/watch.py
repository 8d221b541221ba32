"""What runs beside the trainer's own logs: samples of resources, the analysis of checkpoints, measures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.health.checkpoints import Analyst
from rldk.health.resources import Sampler
from rldk.integrations.trl import run as run_facts
from rldk.integrations.trl.measures import GradientNorm
from rldk.integrations.trl.tokens import TokenCounter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import TrainingArguments

    from rldk.recorder import Recorder

_CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")


class Wanted(NamedTuple):
    """Which watchers the user wants; see `RLDKCallback`."""

    resources: bool
    checkpoints: bool
    missing: bool
    interval_s: float


class Watch:
    """The watchers of one run, from the beginning of its training to the end.

    Args:
        recorder: Where they tell what they see.
        wanted: Which of them there are.
        args: The trainer's arguments.
        step: The step from which training goes on.

    Attributes:
        step: The step of which samples of resources tell.
    """

    def __init__(self, recorder: Recorder, wanted: Wanted, args: TrainingArguments, step: int) -> None:
        self.step = step
        self._recorder = recorder
        self._wanted = wanted
        self._args = args
        self._norm: GradientNorm | None = None
        self._analyst: Analyst | None = None
        self._sampler: Sampler | None = None
        trainer, told = recorder.run.trainer, recorder.run.facts["args"]
        self._tokens = TokenCounter(trainer, told, is_resumed=step > 0)
        if wanted.resources:
            folder = recorder.journal.path.parent
            self._sampler = Sampler(self._tell_resources, wanted.interval_s, folder=folder)
            self._sampler.start()

    def train(self, model: object, optimizer: object) -> None:
        """Training begins, with this model and this optimizer.

        Args:
            model: A torch module, or None where the trainer tells none.
            optimizer: A torch optimizer, or None likewise.
        """
        is_sharded = bool(self._args.fsdp or self._args.deepspeed)  # then no process sees all of a gradient
        is_main = self._recorder.run.rank == 0
        if self._wanted.checkpoints and is_main:
            trainable = None if is_sharded else _trainable(model)
            earlier = _earlier(Path(self._args.output_dir), self.step)
            trainer = self._recorder.run.trainer
            self._analyst = Analyst(trainable=trainable, trainer=trainer, earlier=earlier)
        lacks_norm = optimizer is not None and run_facts.lacks_norm(self._args)
        if self._wanted.missing and lacks_norm and not is_sharded:
            self._norm = GradientNorm(optimizer)

    def saved(self, step: int) -> None:
        """A checkpoint was saved: have it analysed."""
        if self._analyst is not None:
            folder = Path(self._args.output_dir) / f"checkpoint-{step}"
            self._analyst.submit(step, folder.absolute(), self._tell_checkpoint)

    def completed(self, logs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add to a log what the trainer does not log itself, and is measured."""
        norm = None if self._norm is None else self._norm.take()
        return logs if norm is None or "grad_norm" in logs else {**logs, "grad_norm": norm}

    def tokens(self, logs: Mapping[str, Any]) -> dict[str, int]:
        """Count the tokens that the steps since the last log saw."""
        return self._tokens.count(logs)

    def stop(self, patience_s: float) -> None:
        """End all of it; what is still being analysed gets so many seconds."""
        if self._norm is not None:
            self._norm.stop()
        if self._sampler is not None:
            self._sampler.stop()
        if self._analyst is not None:
            self._analyst.finish(patience_s)

    def _tell_resources(self, sample: dict[str, int | float]) -> None:
        self._recorder.emit("resource", self.step, sample)

    def _tell_checkpoint(self, step: int, metrics: dict[str, int | float], facts: dict[str, Any]) -> None:
        self._recorder.emit("checkpoint", step, metrics, facts=facts)


def _earlier(folder: Path, step: int) -> list[Path]:
    """The checkpoints that training goes on from, oldest first."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("checkpoint-*")
        if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return [path.absolute() for number, path in sorted(found) if number <= step]


def _trainable(model: Any) -> tuple[int, int] | None:  # noqa: ANN401  # a torch module, and torch is not imported here
    """How many parameters of what is saved are trained, and how many there are."""
    saved = getattr(model, "policy", model)  # PPO trains policy and value together, and saves the policy
    if not callable(getattr(saved, "parameters", None)):
        return None
    sizes = [(parameter.numel(), bool(parameter.requires_grad)) for parameter in saved.parameters()]
    return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)
