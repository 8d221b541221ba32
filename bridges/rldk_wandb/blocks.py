"""Which records of a `.wandb` file are whole?

The file is a log in blocks of 32 KiB, cut into chunks that carry a checksum:
https://github.com/wandb/wandb/blob/main/core/pkg/leveldb/record.go. A record is one chunk or several,
and each is numbered. A damaged file gives every record that is still whole, and what is lost is counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.errors import SourceError
from rldk_wandb.wire import UNDECODABLE, VARINT, fields, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO


@dataclass
class Damage:
    """What could not be read of a file, counted.

    Attributes:
        places: Stretches of bytes that are no chunk.
        pieces: Chunks of records whose other chunks are not there.
        garbled: Records with the right checksum that are no message.
        unread: Messages inside of records that do not say what they should.
        missing: Records that must have been there, for their numbers are left out; these count the
            records lost in any of the ways above, too. Files of 2021 have no numbers.
        torn: Whether the file ends inside a record.
    """

    places: int = 0
    pieces: int = 0
    garbled: int = 0
    unread: int = 0
    missing: int = 0
    torn: bool = False

    @property
    def undecodable(self) -> int:
        """Records that could not be decoded, wholly or in part."""
        return self.garbled + self.unread

    @property
    def seen(self) -> int:
        """How much of it shows in the bytes; `missing` and `torn` are inferred."""
        return self.places + self.pieces + self.undecodable

    def sentences(self) -> list[str]:
        """Say it to people; empty where nothing is lost."""
        counted: dict[str, int] = {
            f"{self.places} damaged places were skipped (wrong checksum, or zeroed)": self.places,
            f"{self.pieces} pieces of records had lost the rest and were skipped": self.pieces,
            f"{self.undecodable} records could not be decoded and were skipped": self.undecodable,
            f"{self.missing} records are missing, by the numbers of those that are there": self.missing,
            "it ends inside a record: the run was killed, is still writing, or was copied in part": self.torn,
        }
        return [sentence for sentence, count in counted.items() if count]


_BLOCK: Final = 32768
_NUM: Final = tag(1, VARINT)  # of Record, in wandb_internal.proto

Fields = list[tuple[int, Any]]
"""A record's fields: their tags, and an int or bytes as the tag's wire type has it."""


def records(path: Path, damage: Damage, *, block: int = 0) -> Iterator[Fields]:
    """Read the records that are whole, one at a time, and count the damage.

    Args:
        path: The file.
        damage: Where it is counted; complete when the reading is exhausted.
        block: The first block to read; what reaches into it from before is passed over.

    Raises:
        SourceError: The file cannot be opened, or is no `.wandb` file.
    """
    with _open(path) as file:
        if block:
            file.seek(block * _BLOCK)
        yield from _numbered(_records(_chunks(file, damage), damage), damage)


def block_count(path: Path) -> int:
    """How many blocks a file has; none if it cannot be reached."""
    try:
        return -(-path.stat().st_size // _BLOCK)
    except OSError:
        return 0


_IDENT: Final = b":W&B\xe1\xbe"
_VERSION: Final = b"\x00"


def is_wandb_file(path: Path) -> bool:
    """Whether a file begins as `.wandb` files do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_IDENT)) == _IDENT
    except (OSError, ValueError):  # ValueError: a path with a zero byte in it
        return False


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(str(path), str(error), "check the path and its permissions") from error
    ident, version = file.read(len(_IDENT)), file.read(len(_VERSION))
    if ident == _IDENT and version == _VERSION:
        return file
    file.close()
    if ident == _IDENT and version:
        raise SourceError(str(path), f"its format is version {version[0]}, known is 0", "upgrade rldk")
    raise SourceError(str(path), "it is no .wandb file", "give the run-<id>.wandb that W&B wrote")


_HEAD: Final = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_GAP: Final = 0  # stands where bytes are lost
_KINDS: Final = re.compile(rb"[\x01-\x04]")
_SEARCH: Final = 256 * _BLOCK  # bytes to sum, at most, while looking for chunks in one block: milliseconds


class _Chunk(NamedTuple):
    kind: int
    payload: bytes


def _chunks(file: BinaryIO, damage: Damage) -> Iterator[_Chunk]:
    pos = file.tell() % _BLOCK
    block = bytes(pos) + file.read(_BLOCK - pos)
    while block[pos:]:
        yield from _chunks_of(block, pos, damage)
        block, pos = file.read(_BLOCK), 0


def _chunks_of(block: bytes, pos: int, damage: Damage) -> Iterator[_Chunk]:
    search = _SEARCH
    while len(block) - pos >= _HEAD.size:
        if end := _end_of_chunk(block, pos):
            yield _Chunk(block[pos + 6], block[pos + 7 : end])
            pos = end
            continue
        after, search = _find_chunk(block, pos + 1, search)
        if after is None and _is_cut_off(block, pos):
            break
        damage.places += 1
        yield _Chunk(_GAP, b"")
        pos = len(block) if after is None else after
    damage.torn |= len(block) < _BLOCK and pos < len(block)


def _end_of_chunk(block: bytes, pos: int) -> int | None:
    """Where the chunk at `pos` ends; None if no whole chunk is there."""
    checksum, length, kind = _HEAD.unpack_from(block, pos)
    end = pos + _HEAD.size + length
    if not _FULL <= kind <= _LAST or end > len(block):
        return None
    return end if zlib.crc32(memoryview(block)[pos + 6 : end]) == checksum else None


def _is_cut_off(block: bytes, pos: int) -> bool:
    _, length, kind = _HEAD.unpack_from(block, pos)
    return bool(_FULL <= kind <= _LAST and len(block) < pos + _HEAD.size + length <= _BLOCK)


def _find_chunk(block: bytes, pos: int, search: int) -> tuple[int | None, int]:
    """Find the next whole chunk, and what is left of the search that a hostile block may cost."""
    for kind in _KINDS.finditer(block, pos + 6):
        start = kind.start() - 6
        search -= min(_HEAD.unpack_from(block, start)[1], len(block) - start)
        if search < 0:
            break
        if _end_of_chunk(block, start):
            return start, search
    return None, search


class _Record(NamedTuple):
    data: bytes
    joined: bool


def _records(chunks: Iterable[_Chunk], damage: Damage) -> Iterator[_Record]:
    parts: list[bytes] = []
    for kind, payload in chunks:
        if kind in {_FULL, _FIRST, _GAP} and parts:
            damage.pieces += 1
            parts = []
        if kind == _FULL:
            yield _Record(payload, joined=False)
        elif kind == _FIRST or (kind != _GAP and parts):
            parts.append(payload)
        elif kind != _GAP:
            damage.pieces += 1
        if kind == _LAST and parts:
            yield _Record(b"".join(parts), joined=True)
            parts = []
    damage.torn |= bool(parts)


def _numbered(records: Iterable[_Record], damage: Damage) -> Iterator[Fields]:
    """Decode the records' outer layer, and use their numbers to see what is missing.

    Where a whole block is cut out of a file, all checksums are right and the halves of two records
    are joined. Then the next number leaps with no damage in between: such a record is dropped.
    """
    last, before = 0, damage.seen
    held: Fields | None = None  # a joined record, until the next number vouches for it
    for data, joined in records:
        try:
            decoded = list(fields(data))
        except UNDECODABLE:
            damage.garbled += 1
            continue
        number = next((value for head, value in decoded if head == _NUM), 0)
        if not number and last:  # only files of 2021 have none: it is half of a record, the next one tells
            continue
        if number > last + 1:
            damage.missing += number - last - 1
            if held and damage.seen == before:
                damage.missing += 1
                held = None
        if held:
            yield held
        held = decoded if joined else None
        last, before = number, damage.seen
        if not joined:
            yield decoded
    if held:
        yield held
