"""What is a tensor on disk: its name, type and shape, and where its bytes stand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from rldk.errors import SourceError
from rldk.redact import redact_sentence

if TYPE_CHECKING:
    from pathlib import Path

BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E8M0": 8,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
}
"""Bits of an element, by the names of safetensors.

Source: https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs
"""

MOST_TENSORS: Final = 1_000_000
"""Of one checkpoint; the largest public mixtures of experts have some 100,000."""

_LONGEST_NAME: Final = 200


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of a checkpoint.

    Attributes:
        name: Its name in the checkpoint.
        dtype: Its type, one of `BITS`.
        shape: Its shape; empty for a single number.
        path: The file that holds it.
        offset: Where its bytes begin in the file.
        order: Strides of its dimensions in elements where it lies in another order than that of its
            dimensions (a transposed one of a `.bin`); empty for the usual order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    order: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return (self.elements * BITS[self.dtype] + 7) // 8


def shown(name: str) -> str:
    """A name as it may stand in a message: a file can hold any text as a name."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def checked_shape(shape: tuple[int, ...], path: Path, name: str) -> tuple[int, ...]:
    """Make sure that a shape is one.

    Raises:
        SourceError: A dimension is below 0, or the tensor has more elements than a file can hold.
    """
    if any(size < 0 for size in shape) or math.prod(shape) > 2**60:
        raise damaged(path, f"the shape of {shown(name)} is no shape")
    return shape


class DamagedError(SourceError):
    """Weights that are broken, which is something that was found, rather than something that hinders.

    Attributes:
        reason: What is wrong with which file.
        remedy: What to do.
    """

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(str(path), reason, remedy)
        self.reason = redact_sentence(f"{path}: {reason}")
        self.remedy = remedy


def damaged(path: Path, reason: str) -> DamagedError:
    """The error of a file that is broken."""
    return DamagedError(path, reason, "the file is damaged or was not written to its end; save it again")


def unreadable(path: Path, error: OSError) -> SourceError:
    """The error of a file or folder that cannot be read, or not any further."""
    if isinstance(error, FileNotFoundError):
        return SourceError(str(path), "it is gone, or a part of it is", "raise save_total_limit to keep it")
    return SourceError(str(path), str(error), "check its permissions and its disk")
