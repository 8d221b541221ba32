"""How does a checkpoint compare with earlier ones: read tensor by tensor, side by side."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from rldk.errors import SourceError
from rldk.health.checkpoints.decoding import FLOATS
from rldk.health.checkpoints.folder import Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rldk.health.checkpoints.arithmetic import Distance, Measured, Ruler
    from rldk.health.checkpoints.record import Earlier, Trace
    from rldk.health.checkpoints.tensors import Tensor


class Change(msgspec.Struct, frozen=True):
    """How far weights are from what they were.

    With `w` the weights now and `v` those of the earlier checkpoint, over the tensors that both have with
    the same shape:

    Attributes:
        relative: `|w - v| / |v|` in the L2 norm; None where `v` is all zero.
        cosine: `w . v / (|w| |v|)`, computed as `(|w|^2 + |v|^2 - |w - v|^2) / (2 |w| |v|)`, which is exact
            for small changes, too; None where either is all zero.
    """

    relative: float | None
    cosine: float | None

    @classmethod
    def of(cls, pairs: Iterable[tuple[Measured, Distance]]) -> Change:
        """The change of some tensors together."""
        told = [(each.squares, distance.squares, distance.difference) for each, distance in pairs]
        now, before, difference = (sum(column) for column in zip(*told, strict=True)) if told else (0, 0, 0)
        relative = math.sqrt(difference / before) if before else None
        product = math.sqrt(now) * math.sqrt(before)
        cosine = (now + before - difference) / (2 * product) if product else None
        return cls(relative, cosine if cosine is None or cosine != cosine else max(-1.0, min(1.0, cosine)))  # noqa: PLR0124  # NaN


class Comparison:
    """A checkpoint and the earlier ones that it is compared with.

    Attributes:
        format: As in `Weights`.
        problems: What is not known, and why.
        tensors: What was measured, each tensor once; tied weights are one.
        bytes_read: From all the files.
    """

    def __init__(self, folder: Path, earlier: dict[str, Earlier | None], ruler: Ruler) -> None:
        self.format = ""
        self.problems: dict[str, str] = {}
        self.tensors: list[Measured] = []
        self.lost: dict[Path, str] = {}
        self.earlier = {which: each for which, each in earlier.items() if each and each.folder != folder}
        self._folders = list(dict.fromkeys(each.folder for each in self.earlier.values()))
        with ExitStack() as stack:
            weights = stack.enter_context(Weights(folder))
            self.format = weights.format
            self.problems |= weights.problems
            others = [self._opened(each, stack) for each in self._folders]
            for tensor in _once(weights.tensors.values()):
                told = ruler.measure(tensor, weights, [_match(tensor, other) for other in others])
                for number, reason in told.lost.items():
                    self.lost.setdefault(self._folders[number], reason)
                    others[number] = None
                self.tensors.append(told)
        self.bytes_read = ruler.bytes_read

    @property
    def weights(self) -> list[Measured]:
        """The tensors of floating-point numbers."""
        return [each for each in self.tensors if each.is_weight]

    def distance(self, which: str, told: Measured) -> Distance | None:
        """How far a tensor is from what it was; None where nobody could compare."""
        each = self.earlier.get(which)
        if each is None or each.folder in self.lost:
            return None
        return told.distances[self._folders.index(each.folder)]

    def pairs(self, which: str) -> list[tuple[Measured, Distance]]:
        """All tensors that could be compared, each with its distance."""
        found = ((each, self.distance(which, each)) for each in self.weights)
        return [(each, distance) for each, distance in found if distance is not None]

    def norm(self, which: str, told: Measured) -> float | None:
        """What the norm of a tensor was; None where nobody knows."""
        distance = self.distance(which, told)
        if distance is not None:
            return math.sqrt(distance.squares)
        trace = self._trace(which, told)
        return None if trace is None else trace.norm

    def is_unchanged(self, which: str) -> bool | None:
        """Whether every bit of the weights is what it was; None where nobody knows."""
        same = [self._is_same(which, each) for each in self.weights]
        if not same or None in same:
            return None
        return all(same)

    def _is_same(self, which: str, told: Measured) -> bool | None:
        distance = self.distance(which, told)
        if distance is not None:
            return distance.is_same
        trace = self._trace(which, told)
        return None if trace is None else trace.checksum == told.checksum

    def _trace(self, which: str, told: Measured) -> Trace | None:
        each, tensor = self.earlier.get(which), told.tensor
        trace = each and each.traces and each.traces.get(tensor.name)
        is_alike = trace and trace.dtype == tensor.dtype and trace.elements == tensor.elements
        return trace if trace and is_alike else None

    def _opened(self, folder: Path, stack: ExitStack) -> Weights | None:
        try:
            return stack.enter_context(Weights(folder))
        except SourceError as error:
            self.lost[folder] = str(error)
            return None


def _once(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each tensor under the first of its names: tied weights are the same bytes."""
    seen: set[tuple[Path, int, int]] = set()
    for tensor in tensors:
        place = (tensor.path, tensor.offset, tensor.size)
        if not tensor.size or place not in seen:
            seen.add(place)
            yield tensor


def _match(tensor: Tensor, weights: Weights | None) -> tuple[Tensor, Weights] | None:
    """The same tensor in another checkpoint, where it can be compared with."""
    was = None if weights is None else weights.tensors.get(tensor.name)
    if weights is None or was is None or was.dtype not in FLOATS:
        return None
    return (was, weights) if (was.shape, was.order) == (tensor.shape, tensor.order) else None
