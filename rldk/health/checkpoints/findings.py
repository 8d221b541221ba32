"""What is wrong with a checkpoint's weights? Pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from rldk.health.checkpoints.tensors import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

GROWTH: Final = 10.0
"""How many times a tensor's norm has to be that of the run's first checkpoint to be called exploding."""
SIZE: Final = 10.0
"""And how many times its root mean square has to be the typical one of the first checkpoint."""

_MOST_NAMED: Final = 5


class Layer(msgspec.Struct, frozen=True):
    """What the rules have to know of one tensor of floating-point numbers.

    Attributes:
        name: Its name.
        elements: How many numbers it holds.
        dimensions: How many dimensions it has.
        norm: Its L2 norm.
        nonfinite: How many numbers are NaN or infinite.
        zeros: How many numbers are zero.
        dead_rows: Rows that are all zero now and were not in an earlier checkpoint.
        was_alive: Whether it was not all zero in an earlier checkpoint; None where no one knows.
        first_norm: Its norm in the run's first checkpoint; None where no one knows.
    """

    name: str
    elements: int
    dimensions: int
    norm: float
    nonfinite: int
    zeros: int
    dead_rows: int = 0
    was_alive: bool | None = None
    first_norm: float | None = None


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong with a checkpoint.

    Attributes:
        rule: Its name.
        severity: How bad it is.
        message: What is seen, for people.
        evidence: The numbers behind it.
        advice: What to do.
        source: Why it is judged so.
    """

    rule: str
    severity: Literal["warning", "critical"]
    message: str
    evidence: dict[str, Any]
    advice: str
    source: str


def nonfinite(layers: Sequence[Layer]) -> list[Finding]:
    """`checkpoint_nonfinite`: a weight is NaN or infinite, so that all that the model computes may be."""
    broken = sorted((layer for layer in layers if layer.nonfinite), key=lambda layer: -layer.nonfinite)
    if not broken:
        return []
    count, total = sum(layer.nonfinite for layer in broken), sum(layer.elements for layer in layers)
    return [
        Finding(
            rule="checkpoint_nonfinite",
            severity="critical",
            message=f"{count:,} of {total:,} weights are NaN or infinite, in {_named(broken)}",
            evidence={
                "nonfinite_count": count,
                "tensors": len(broken),
                **{shown(layer.name): layer.nonfinite for layer in broken[:_MOST_NAMED]},
            },
            advice="Do not use this checkpoint or go on from it: take the last finite one, and lower the "
            "learning rate, clip the gradient, or train in bfloat16 instead of float16.",
            source="IEEE 754: a sum or product with NaN is NaN, so that one weight can spoil every output",
        )
    ]


def unchanged(*, is_unchanged: bool | None, tensors: int) -> list[Finding]:
    """`checkpoint_unchanged`: every bit of the weights is as in the previous checkpoint."""
    if not is_unchanged:
        return []
    return [
        Finding(
            rule="checkpoint_unchanged",
            severity="warning",
            message=f"all {tensors:,} tensors are bit by bit those of the previous checkpoint",
            evidence={"tensors": tensors},
            advice="Nothing is learned: look whether the weights are frozen, the learning rate is 0 or too "
            "small for their type (bfloat16 has 8 bits), or the gradients are zero.",
            source="A step of Adam moves each weight with a gradient by about the learning rate: "
            "https://arxiv.org/abs/1412.6980, section 2.1",
        )
    ]


def dead(layers: Sequence[Layer]) -> list[Finding]:
    """`checkpoint_dead_layers`: a tensor, or rows of one, that are all zero now and were not before.

    What has been zero from the start, as the B matrices of LoRA or biases, is as it should be.
    """
    gone = [layer for layer in layers if is_dead(layer)]
    rows = [layer for layer in layers if layer.dead_rows and not is_dead(layer)]
    if not gone and not rows:
        return []
    told = [f"{len(gone)} tensors became all zero: {_named(gone)}"] if gone else []
    count = sum(layer.dead_rows for layer in rows)
    told += [f"{count:,} rows became all zero, in {_named(rows)}"] if rows else []
    return [
        Finding(
            rule="checkpoint_dead_layers",
            severity="warning",
            message="; ".join(told),
            evidence={"dead_tensors": len(gone), "dead_rows": count},
            advice="Look for what has set them to zero: a weight decay far too large, an overflow in "
            "float16, pruning, or a checkpoint that was merged or saved wrongly.",
            source="Gradient steps do not end at exactly 0, so zeros are written, or are an underflow",
        )
    ]


def is_dead(layer: Layer) -> bool:
    """Whether a tensor is all zero now, and is known not to have been."""
    return layer.was_alive is True and 0 < layer.elements == layer.zeros


def exploding(layers: Sequence[Layer]) -> list[Finding]:
    """`checkpoint_exploding_layers`: weights that are far larger than at the run's first checkpoint.

    A tensor explodes where both hold:

    - its norm is at least 10 times its norm in the first checkpoint: `|w| / |w_first| >= 10`;
    - its root mean square `|w| / sqrt(n)` is at least 10 times the median of that of the tensors of the
      first checkpoint of its kind, matrices or vectors (those that were not all zero then).

    A weight moves by about the learning rate a step, so that thousands of steps of 1e-5 move it by its own
    size at most. What begins at or near zero (LoRA's B, biases, new heads) grows many times over and
    reaches the size of the others: the second condition leaves it alone. Both compare the run with itself.
    """
    grown = _exploding(layers)
    if not grown:
        return []
    worst, factor = grown[0], _growth(grown[0])
    others = [_growth(layer) for layer in layers if layer.first_norm]
    return [
        Finding(
            rule="checkpoint_exploding_layers",
            severity="warning",
            message=f"{len(grown)} tensors have {GROWTH:.0f} times their first norm or more, "
            f"{shown(worst.name)} {factor:.4g} times: {_named(grown)}",
            evidence={
                "exploding_tensors": len(grown),
                "tensor": shown(worst.name),
                "norm": worst.norm,
                "first_norm": worst.first_norm,
                "growth": factor,
                "median_growth": statistics.median(others),
            },
            advice="Lower the learning rate, clip the gradient, or add weight decay; go on from a checkpoint "
            "before the growth.",
            source="A step of Adam moves each weight by about the learning rate at most: "
            "https://arxiv.org/abs/1412.6980, section 2.1; LoRA's B begins at zero: "
            "https://arxiv.org/abs/2106.09685, section 4.1",
        )
    ]


def count_exploding(layers: Sequence[Layer]) -> int:
    """How many tensors explode, by the rule `exploding`."""
    return len(_exploding(layers))


def _exploding(layers: Sequence[Layer]) -> list[Layer]:
    typical = {is_matrix: _typical(layers, is_matrix=is_matrix) for is_matrix in (True, False)}
    grown = [
        layer
        for layer in layers
        if layer.first_norm
        and math.isfinite(layer.norm)
        and _growth(layer) >= GROWTH
        and _root_mean_square(layer, layer.norm) >= SIZE * typical[_is_matrix(layer)]
    ]
    return sorted(grown, key=_growth, reverse=True)


def _typical(layers: Sequence[Layer], *, is_matrix: bool) -> float:
    sizes = [
        _root_mean_square(layer, layer.first_norm)
        for layer in layers
        if layer.first_norm and math.isfinite(layer.first_norm) and _is_matrix(layer) == is_matrix
    ]
    return statistics.median(sizes) if sizes else math.inf


def _root_mean_square(layer: Layer, norm: float) -> float:
    return norm / math.sqrt(layer.elements)


def _is_matrix(layer: Layer) -> bool:
    return layer.dimensions > 1


def _growth(layer: Layer) -> float:
    return layer.norm / layer.first_norm if layer.first_norm else 1.0


def _named(layers: Sequence[Layer]) -> str:
    names = ", ".join(shown(layer.name) for layer in layers[:_MOST_NAMED])
    return names if len(layers) <= _MOST_NAMED else f"{names} and {len(layers) - _MOST_NAMED} more"
