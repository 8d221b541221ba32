"""What do the weights of a checkpoint tell, beside those of the previous and the first one?"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk.errors import SourceError
from rldk.health.checkpoints import findings
from rldk.health.checkpoints.arithmetic import Ruler
from rldk.health.checkpoints.comparison import Change, Comparison
from rldk.health.checkpoints.decoding import FLOATS
from rldk.health.checkpoints.findings import Layer
from rldk.health.checkpoints.folder import Weights, measure
from rldk.health.checkpoints.record import Analysis, Earlier, Trace
from rldk.health.checkpoints.tensors import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.health.checkpoints.arithmetic import Measured

_MOST_CHANGES: Final = 10
_SUFFIXES: Final = {"previous": "", "first": "_first"}
_PARTS: Final = ("policy", "value_model", "v_head")  # of TRL's wrappers of a policy and its value head
_PPO: Final = "TRL's PPOTrainer saves the policy alone: its value head is in no checkpoint"


def analysed(
    folder: Path,
    previous: Earlier | None,
    first: Earlier | None,
    *,
    trainable: tuple[int, int] | None,
    trainer: str,
    pause: Callable[[], None] = lambda: None,
) -> Analysis:
    """Do what `rldk.health.checkpoints.analyse` does, with what is remembered of the earlier ones.

    Args:
        folder: The checkpoint.
        previous: The one before; what is remembered of it is used where its files are gone.
        first: The run's first one, likewise.
        trainable: How many of the model's parameters are trained, and how many there are.
        trainer: Short name of the trainer, such as `PPO`.
        pause: Called after each piece that is read; may wait, or raise to end the work.

    Raises:
        SourceError: There is no such folder, or its weights are damaged.
    """
    began = time.monotonic()
    told = Comparison(folder, {"previous": previous, "first": first}, Ruler(pause))
    layers = [_layer(told, each) for each in told.weights]
    found = [
        *findings.nonfinite(layers),
        *findings.unchanged(is_unchanged=told.is_unchanged("previous"), tensors=len(layers)),
        *findings.dead(layers),
        *findings.exploding(layers),
    ]
    metrics = measure(folder)
    facts: dict[str, Any] = {"format": told.format, "tensors": len(told.tensors), **_parts(told, trainer)}
    if told.tensors:
        metrics |= _numbers(told, layers) | _changes(told, facts)
    if trainable is not None and trainable[1] > 0:
        metrics["trainable_frac"] = trainable[0] / trainable[1]
    facts |= {
        "dtypes": dict(sum((Counter({t.tensor.dtype: t.tensor.elements}) for t in told.tensors), Counter())),
        "largest_changes": _largest_changes(told),
        "findings": msgspec.to_builtins(found),
        "unavailable": told.problems,
    }
    if told.tensors:
        metrics["analysis_s"] = took = time.monotonic() - began
        metrics["read_bytes_per_s"] = told.bytes_read / max(took, 1e-9)
    traces = {each.tensor.name: _trace(each) for each in told.tensors}
    return Analysis(metrics, facts, found, Earlier(folder, traces))


def is_finite(folder: Path) -> bool | None:
    """Do what `rldk.health.checkpoints.is_finite` does."""
    ruler = Ruler()
    try:
        with Weights(folder) as weights:
            tensors = [each for each in weights.tensors.values() if each.dtype in FLOATS]
            return not any(ruler.nonfinite(each, weights) for each in tensors) if tensors else None
    except SourceError:
        return None


def _layer(told: Comparison, each: Measured) -> Layer:
    was = [norm for which in told.earlier if (norm := told.norm(which, each)) is not None]
    distances = (told.distance(which, each) for which in told.earlier)
    return Layer(
        name=each.tensor.name,
        elements=each.tensor.elements,
        dimensions=len(each.tensor.shape),
        norm=each.norm,
        nonfinite=each.nonfinite,
        zeros=each.zeros,
        dead_rows=max((distance.dead_rows for distance in distances if distance), default=0),
        was_alive=any(norm != 0 for norm in was) if was else None,
        first_norm=told.norm("first", each),
    )


def _numbers(told: Comparison, layers: list[Layer]) -> dict[str, int | float]:
    parameters = sum(layer.elements for layer in layers)
    whole = len(told.tensors) - len(layers)
    if whole:
        reason = f"{whole} tensors are no floating-point numbers (masks, positions, or quantised weights)"
        told.problems["other_tensors"] = f"{reason}: they are in no norm, count and change"
    if not parameters:
        return {}
    return {
        "parameters": parameters,
        "norm": math.sqrt(sum(each.squares for each in told.weights)),
        "nonfinite_count": sum(layer.nonfinite for layer in layers),
        "zero_frac": sum(layer.zeros for layer in layers) / parameters,
        "dead_tensors": sum(map(findings.is_dead, layers)),
        "exploding_tensors": findings.count_exploding(layers),
    }


def _changes(told: Comparison, facts: dict[str, Any]) -> dict[str, int | float]:
    """What has changed since the earlier checkpoints; why not is told in `problems`."""
    metrics: dict[str, int | float] = {}
    for which, suffix in _SUFFIXES.items():
        pairs = told.pairs(which)
        change = Change.of(pairs)
        values = {f"relative_change{suffix}": change.relative, f"cosine{suffix}": change.cosine}
        known = {name: value for name, value in values.items() if value is not None}
        metrics |= known
        told.problems |= dict.fromkeys(values.keys() - known.keys(), _why_not(told, which))
        if known and len(pairs) < len(told.weights):
            told.problems[f"changes{suffix}"] = _missing(told, which, len(pairs))
        was = [told.norm(which, each) for each in told.weights]
        if not pairs and was and None not in was and any(was):
            before = math.sqrt(sum(norm**2 for norm in was if norm is not None))
            facts[f"norm_change{suffix}"] = math.sqrt(sum(each.squares for each in told.weights)) / before - 1
    return metrics


def _why_not(told: Comparison, which: str) -> str:
    """Why the change from an earlier checkpoint is not known."""
    each, pairs = told.earlier.get(which), len(told.pairs(which))
    if each is None:
        return f"there is no {which} checkpoint to compare with"
    if each.folder in told.lost:
        return f"the {which} checkpoint cannot be compared with: {told.lost[each.folder]}"
    if pairs < len(told.weights):
        return _missing(told, which, pairs)
    return f"the weights of the {which} checkpoint, or of this one, are all zero"


def _missing(told: Comparison, which: str, compared: int) -> str:
    count = len(told.weights)
    return f"{count - compared} of {count} tensors are not in the {which} checkpoint with this shape"


def _largest_changes(told: Comparison) -> list[dict[str, Any]]:
    """The tensors that have changed most, by their relative L2 change from the previous checkpoint.

    From the first one, where there is no previous one to compare with. A tensor that was all zero has no
    relative change.
    """
    which = "previous" if told.pairs("previous") else "first"
    changes = [(Change.of([pair]), pair[0]) for pair in told.pairs(which)]
    known = [(change.relative, change, each) for change, each in changes if change.relative is not None]
    known.sort(key=lambda told: -math.inf if math.isnan(told[0]) else -told[0])
    return [
        {
            "tensor": shown(each.tensor.name),
            f"relative_change{_SUFFIXES[which]}": change.relative,
            f"cosine{_SUFFIXES[which]}": change.cosine,
            "norm": each.norm,
        }
        | (_from_first(told, each) if which == "previous" else {})
        for _, change, each in known[:_MOST_CHANGES]
    ]


def _from_first(told: Comparison, each: Measured) -> dict[str, Any]:
    distance = told.distance("first", each)
    if distance is None:
        return {}
    change = Change.of([(each, distance)])
    return {"relative_change_first": change.relative, "cosine_first": change.cosine}


def _parts(told: Comparison, trainer: str) -> dict[str, Any]:
    """The policy and the value head, where the checkpoint has both.

    `PPOTrainer.save_model` saves the policy alone, without a prefix. Where somebody has saved the state of
    its `PolicyAndValueWrapper`, the names begin with `policy.`, `value_model.` and `critic_backbone.`, the
    last of which are other names for tensors of the value model.
    """
    parts: dict[str, list[Measured]] = {}
    for each in told.weights:
        part = each.tensor.name.removeprefix("module.").partition(".")[0]
        parts.setdefault(part if part in _PARTS else "other", []).append(each)
    heads = set(parts) & set(_PARTS) - {"policy"}
    if trainer == "PPO" and told.tensors and not heads:
        told.problems["value_head"] = _PPO
    if not heads:
        return {}
    numbers = {
        part: {
            "parameters": sum(each.tensor.elements for each in tensors),
            "norm": math.sqrt(sum(each.squares for each in tensors)),
        }
        for part, tensors in parts.items()
    }
    return {"parts": numbers}


def _trace(each: Measured) -> Trace:
    return Trace(each.tensor.dtype, each.tensor.elements, each.norm, each.checksum)
