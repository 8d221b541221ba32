"""What does a checkpoint hold, and is it sound?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rldk.health.checkpoints.analyst import Analyst
from rldk.health.checkpoints.folder import holds_weights, measure
from rldk.health.checkpoints.record import Analysis, Earlier

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Analysis", "Analyst", "Earlier", "analyse", "holds_weights", "is_finite", "measure"]


def analyse(
    folder: Path,
    previous: Path | None = None,
    first: Path | None = None,
    *,
    trainable: tuple[int, int] | None = None,
    trainer: str = "",
) -> Analysis:
    """Read the weights of a checkpoint, and compare them with those of earlier ones.

    `.safetensors` and `.bin` (of `torch.save`), one file or shards with an index, and adapters of PEFT. It
    needs neither torch nor safetensors, runs no code of the checkpoint, and reads piece by piece: memory
    does not grow with the checkpoint. Optimizer states and other files are not read. Norms, counts and
    changes are those of floating-point tensors; tied weights count once.

    Args:
        folder: The checkpoint.
        previous: The one before.
        first: The run's first one.
        trainable: How many of the model's parameters are trained, and how many there are.
        trainer: Short name of the trainer, such as `PPO`.

    Returns:
        The numbers, and what is wrong. What is not known is absent, with a reason in
        `facts["unavailable"]`, such as an earlier checkpoint that is gone, or weights in a form that is not
        read (FSDP's and DeepSpeed's own states).

    Raises:
        SourceError: There is no such folder, or its weights are damaged or ask for code to be run.
    """
    from rldk.health.checkpoints.analysis import analysed  # noqa: PLC0415  # it imports numpy

    earlier = [None if each is None else Earlier(each) for each in (previous, first)]
    return analysed(folder, *earlier, trainable=trainable, trainer=trainer)


def is_finite(folder: Path) -> bool | None:
    """Whether all weights of a checkpoint are finite; it is read until the first that is not.

    Returns:
        None where no one can tell: there is no such folder, its weights cannot be read, or none are
        floating-point numbers.
    """
    from rldk.health.checkpoints import analysis  # noqa: PLC0415  # it imports numpy

    return analysis.is_finite(folder)
