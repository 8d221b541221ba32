"""Which records of a `.wandb` file are whole?

The file is a log in blocks of 32 KiB, cut into chunks that carry a checksum:
https://github.com/wandb/wandb/blob/main/core/pkg/leveldb/record.go. A record is one chunk or several,
and each is numbered. A damaged file gives every record that is still whole, and what is lost is counted.
"""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rldk.errors import SourceError
from rldk_wandb.wire import BYTES, UNDECODABLE, VARINT, fields, tag

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
_LARGE: Final = 1 << 21  # numbers from here on take more than three bytes
_MORE: Final = 0x80  # the bit of a byte that says: more follows


class Places:
    """Where records lie in a file, so that they can be read again: 12 bytes for each piece of each."""

    def __init__(self) -> None:
        self._starts = array("Q")
        self._sizes = array("i")  # negative where the record goes on in another chunk

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, place: Place) -> None:
        """Note one more record."""
        *others, (start, size) = place
        for begin, length in others:
            self._starts.append(begin)
            self._sizes.append(-length)
        self._starts.append(start)
        self._sizes.append(size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._sizes, strict=True)


Place = tuple[tuple[int, int], ...]
"""The offset and the size of each piece of a record."""

Fields = Sequence[tuple[int, Any]]
"""A record's fields: their tags, and an int or bytes as the tag's wire type has it."""


def records(path: Path, damage: Damage, *, block: int = 0) -> Iterator[tuple[Fields, Place]]:
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


def records_at(path: Path, places: Places, damage: Damage) -> Iterator[Fields]:
    """Read records again that were found whole before, without looking at the rest of the file.

    Args:
        path: The file.
        places: Where they are.
        damage: Where it is counted what is not whole any more.

    Raises:
        SourceError: The file cannot be opened any more.
    """
    with _open(path) as file:
        data = b""
        for start, size in places:
            file.seek(start)
            data += file.read(abs(size))
            if size < 0:
                continue
            try:
                yield (_usual(data) or _any(data))[1]
            except UNDECODABLE:
                damage.garbled += 1
            data = b""


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
        if not path.is_file():  # to open a pipe may never return
            return False
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


_Chunk = tuple[int, bytes, int]
"""Its kind, what it holds, and where in the file that begins."""


def _chunks(file: BinaryIO, damage: Damage) -> Iterator[_Chunk]:
    begin, pos = divmod(file.tell(), _BLOCK)
    begin *= _BLOCK
    block = bytes(pos) + file.read(_BLOCK - pos)
    while block[pos:]:
        yield from _chunks_of(block, pos, begin, damage)
        begin += _BLOCK
        block, pos = file.read(_BLOCK), 0


def _chunks_of(block: bytes, pos: int, begin: int, damage: Damage) -> list[_Chunk]:
    search = _SEARCH
    found: list[_Chunk] = []
    while len(block) - (pos := _follow(block, pos, begin, found)) >= _HEAD.size:
        after, search = _find_chunk(block, pos + 1, search)
        if after is None and _is_cut_off(block, pos):
            break
        found.append((_GAP, b"", 0))
        pos = len(block) if after is None else after
    damage.torn |= len(block) < _BLOCK and pos < len(block)
    return found


def _follow(block: bytes, pos: int, begin: int, found: list[_Chunk]) -> int:
    """Add the whole chunks that come one after the other; where there are no more of them."""
    view, crc32, unpack = memoryview(block), zlib.crc32, _HEAD.unpack_from  # looked up 300,000 times else
    last = len(block) - _HEAD.size
    while pos <= last:
        checksum, length, kind = unpack(block, pos)
        start = pos + 7
        end = start + length
        if not _FULL <= kind <= _LAST or end > len(block) or crc32(view[pos + 6 : end]) != checksum:
            break
        found.append((kind, block[start:end], begin + start))
        pos = end
    return pos


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


_Record = tuple[bytes, Place]


def _records(chunks: Iterable[_Chunk], damage: Damage) -> Iterator[_Record]:
    parts: list[_Chunk] = []
    for chunk in chunks:
        kind, payload, start = chunk
        if kind == _FULL and not parts:  # nearly all
            yield payload, ((start, len(payload)),)
            continue
        if kind == _GAP:
            damage.places += 1
        if kind in {_FULL, _FIRST, _GAP} and parts:
            damage.pieces += 1
            parts = []
        if kind == _FULL:
            yield payload, ((start, len(payload)),)
        elif kind == _FIRST or (kind != _GAP and parts):
            parts.append(chunk)
        elif kind != _GAP:
            damage.pieces += 1
        if kind == _LAST and parts:
            yield _joined(parts)
            parts = []
    damage.torn |= bool(parts)


def _joined(parts: Iterable[_Chunk]) -> _Record:
    data = b"".join(payload for _, payload, _ in parts)
    return data, tuple((start, len(payload)) for _, payload, start in parts)


def _numbered(records: Iterable[_Record], damage: Damage) -> Iterator[tuple[Fields, Place]]:
    """Decode the records' outer layer, and use their numbers to see what is missing.

    Where a whole block is cut out of a file, all checksums are right and the halves of two records
    are joined. Then the next number leaps with no damage in between: such a record is dropped.
    """
    last = before = 0
    held: tuple[Fields, Place] | None = None  # a joined record, until the next number vouches for it
    for data, place in records:
        try:
            number, decoded = _usual(data) or _any(data)
        except UNDECODABLE:
            damage.garbled += 1
            continue
        if not number and last:  # only files of 2021 have none: it is half of a record, the next one tells
            continue
        if number > last + 1:
            damage.missing += number - last - 1
            if held and damage.seen == before:
                damage.missing += 1
                held = None
        if held:
            yield held
            held = None
        last = number
        if len(place) > 1:
            held, before = (decoded, place), damage.seen
        else:
            yield decoded, place
    if held:
        yield held


def _usual(data: bytes) -> tuple[int, Fields] | None:
    """Decode what nearly every record is, its number and one message of less than 16 KiB; None for others.

    It is asked of 300,000 records in a file of 100,000 rows, and calls of `varint` would double its time.
    """
    try:
        number, pos = data[1], 2
        if number >= _MORE:
            number += (data[2] - 1) << 7
            pos = 3
            if data[2] >= _MORE:
                number += (data[3] - 1) << 14
                pos = 4
        head, size = data[pos], data[pos + 1]
        pos += 2
        if size >= _MORE:
            size += (data[pos] - 1) << 7
            pos += 1
    except IndexError:
        return None
    is_short = data[0] == _NUM and number < _LARGE and head < _MORE and head & 7 == BYTES
    return (number, ((head, data[pos:]),)) if is_short and pos + size == len(data) else None


def _any(data: bytes) -> tuple[int, Fields]:
    """Decode a record: its number, 0 for none, and its fields.

    Raises:
        UNDECODABLE: It is no message.
    """
    decoded = list(fields(data))
    return next((value for head, value in decoded if head == _NUM), 0), decoded
