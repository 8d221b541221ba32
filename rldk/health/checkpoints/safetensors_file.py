"""What does a .safetensors file hold: its header, checked as the library does, without the tensors.

The file is read by plain reads and not by the library, which maps it into memory: a mapped file that is
cut while it is read (saved again under its name, say) ends the process by SIGBUS, and this is the process
that trains. The format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from rldk.errors import SourceError
from rldk.health.checkpoints.tensors import BITS, MOST_TENSORS, Tensor, checked_shape, damaged, shown

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_HEADER: Final = 100_000_000
"""Bytes; the library's own limit."""

_LENGTH: Final = 8
_METADATA: Final = "__metadata__"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[Count, ...]
    data_offsets: tuple[Count, Count]


def tensors(path: Path) -> list[Tensor]:
    """Read the header of a file: its tensors in the order of their bytes.

    Raises:
        SourceError: It is no such file, or one whose header does not agree with its bytes.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > size - _LENGTH:
            raise damaged(path, f"it has {size:,} bytes, fewer than its header says that it has")
        if length > LONGEST_HEADER:
            raise damaged(path, f"its header has {length:,} bytes, more than {LONGEST_HEADER:,}")
        header = file.read(length)
    begin = _LENGTH + length
    found = [_tensor(path, name, entry, begin) for name, entry in _entries(path, header).items()]
    found.sort(key=lambda tensor: (tensor.offset, tensor.size))
    _check_order(path, found, begin, size)
    return found


def _entries(path: Path, header: bytes) -> dict[str, _Entry]:
    try:
        told = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        told.pop(_METADATA, None)
        if len(told) > MOST_TENSORS:
            raise SourceError(str(path), f"it names {len(told):,} tensors", f"{MOST_TENSORS:,} are the most")
        return {name: msgspec.json.decode(entry, type=_Entry) for name, entry in told.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error


def _tensor(path: Path, name: str, entry: _Entry, begin: int) -> Tensor:
    if entry.dtype not in BITS:
        reason = f"{shown(name)} has the type {shown(entry.dtype)}, which is not known"
        raise SourceError(str(path), reason, "update RLDK, or save the weights in another type")
    first, last = entry.data_offsets
    tensor = Tensor(name, entry.dtype, checked_shape(entry.shape, path, name), path, begin + first)
    if tensor.size != last - first:
        raise damaged(path, f"{shown(name)} needs {tensor.size:,} bytes and has {last - first:,}")
    return tensor


def _check_order(path: Path, found: list[Tensor], begin: int, size: int) -> None:
    """Each tensor begins where the one before ends, and the last ends with the file."""
    for tensor in found:
        if tensor.offset != begin:
            raise damaged(path, f"{shown(tensor.name)} does not begin where the tensor before it ends")
        begin += tensor.size
    if begin != size:
        raise damaged(path, f"it has {size:,} bytes, and {begin:,} by its header")
