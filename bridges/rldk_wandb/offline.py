"""What does a `.wandb` file say: read with neither wandb nor protobuf installed.

The file is a log in blocks of 32 KiB, cut into chunks that carry a checksum (wandb's
`core/pkg/leveldb/record.go`). The chunks, joined, are protobuf messages, `Record` of
`wandb/proto/wandb_internal.proto`, of which only the fields that RLDK needs are decoded. A damaged
file gives every record that is still whole, and says what is lost.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO


@dataclass
class Run:
    """What a file says of its run: the last word on each.

    Attributes:
        run_id: W&B's id of the run; empty where the file does not say.
        entity: User or team; empty for a run that was offline.
        project: The project's name.
        name: The run's display name.
        start_time: When the run was started, seconds since the epoch.
        config: The run's config.
        exit_code: None where the run was killed or is still going.
    """

    run_id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    start_time: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


@dataclass
class Damage:
    """What could not be read of a file, counted.

    Attributes:
        places: Stretches of bytes that are no chunk.
        pieces: Chunks of records whose other chunks are not there.
        undecodable: Records with the right checksum that are no message.
        missing: Records that must have been there, for their numbers are left out; these count the
            records lost in any of the ways above, too. Files of 2021 have no numbers.
        torn: Whether the file ends inside a record.
    """

    places: int = 0
    pieces: int = 0
    undecodable: int = 0
    missing: int = 0
    torn: bool = False

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


class WandbFile:
    """One `.wandb` file, read as a stream: memory holds one record at a time.

    Attributes:
        path: The file.
        damage: What the latest reading could not read; complete when that reading is exhausted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()

    def run(self) -> Run:
        """Read what the file says of its run; the rows are passed over.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        run = Run()
        for tag, message in self._messages(_RUN_READERS):
            self._read(_RUN_READERS[tag], message, run)
        return run

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the history: a dictionary for each row, in the order in which they were logged.

        A key that was logged nested comes back nested. JSON's null is None, NaN and the infinities
        are floats, and the text "NaN" is text.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        for _, message in self._messages((_HISTORY,)):
            row: dict[str, Any] = {}
            if self._read(_read_row, message, row):
                yield row

    def _messages(self, wanted: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        self.damage = Damage()
        tags = frozenset(wanted)
        with _open(self.path) as file:
            for record in _numbered(_records(_chunks(file, self.damage), self.damage), self.damage):
                yield from ((tag, value) for tag, value in record if tag in tags)

    def _read(self, reader: Callable[[bytes, Any], None], message: bytes, into: object) -> bool:
        try:
            reader(message, into)
        except _UNDECODABLE:
            self.damage.undecodable += 1
            return False
        return True


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


_BLOCK: Final = 32768
_HEAD: Final = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_GAP: Final = 0  # stands where bytes are lost
_KINDS: Final = re.compile(rb"[\x01-\x04]")
_SEARCH: Final = 256 * _BLOCK  # bytes to sum, at most, while looking for chunks in one block: milliseconds


class _Chunk(NamedTuple):
    kind: int
    payload: bytes


def _chunks(file: BinaryIO, damage: Damage) -> Iterator[_Chunk]:
    pos = file.tell()
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


_Fields = list[tuple[int, Any]]  # a tag, and an int or bytes as the tag's wire type has it


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


def _numbered(records: Iterable[_Record], damage: Damage) -> Iterator[_Fields]:
    """Decode the records' outer layer, and use their numbers to see what is missing.

    Where a whole block is cut out of a file, all checksums are right and the halves of two records
    are joined. Then the next number leaps with no damage in between: such a record is dropped.
    """
    last, before = 0, damage.seen
    held: _Fields | None = None  # a joined record, until the next number vouches for it
    for data, joined in records:
        try:
            fields = list(_fields(data))
        except _UNDECODABLE:
            damage.undecodable += 1
            continue
        number = next((value for tag, value in fields if tag == _NUM), 0)  # 0 in files of 2021
        if number > last + 1:
            damage.missing += number - last - 1
            if held and damage.seen == before:
                damage.missing += 1
                held = None
        if held:
            yield held
        held = fields if joined else None
        last, before = number, damage.seen
        if not joined:
            yield fields
    if held:
        yield held


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 70  # bits


class _MalformedError(ValueError):
    pass


_UNDECODABLE: Final = (ValueError, IndexError, RecursionError)


def _tag(number: int, wire: int = _BYTES) -> int:
    return number << 3 | wire


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Cut a message into its fields: https://protobuf.dev/programming-guides/encoding/."""
    pos = 0
    while pos < len(data):
        tag, pos = _varint(data, pos)
        wire = tag & 7
        if wire == _VARINT:
            value, pos = _varint(data, pos)
            yield tag, value
            continue
        if wire == _BYTES:
            size, pos = _varint(data, pos)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, len(data))
        pos += size
        if pos > len(data):
            raise _MalformedError
        yield tag, data[pos - size : pos]


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = data[pos]
    if value < 0x80:  # noqa: PLR2004  # the bit that says: more follows
        return value, pos + 1
    value &= 0x7F
    for shift in range(7, _LONGEST_VARINT, 7):
        pos += 1
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the same
            return value & 0xFFFF_FFFF_FFFF_FFFF, pos + 1
    raise _MalformedError


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _zigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


@lru_cache(maxsize=4096)
def _name(data: bytes) -> str:
    return data.decode()


# Record; HistoryRecord and HistoryStep; HistoryItem and ConfigItem; ConfigRecord; RunRecord and Timestamp;
# RunExitRecord: the fields that are read, with the numbers that wandb_internal.proto gives them.
_NUM, _HISTORY, _CONFIG, _RUN, _EXIT = _tag(1, _VARINT), _tag(2), _tag(5), _tag(17), _tag(18)

_ITEM, _STEP, _STEP_NUM = _tag(1), _tag(2), _tag(1, _VARINT)
_KEY, _NESTED_KEY, _VALUE_JSON = _tag(1), _tag(2), _tag(16)
_UPDATE, _REMOVE = _tag(1), _tag(2)
_RUN_CONFIG, _START_TIME, _SECONDS, _NANOS = _tag(4), _tag(17), _tag(1, _VARINT), _tag(2, _VARINT)
_EXIT_CODE: Final = _tag(1, _VARINT)
_RUN_TEXTS: Final = {_tag(1): "run_id", _tag(2): "entity", _tag(3): "project", _tag(8): "name"}

_SHORT_NAME: Final = bytes([_NESTED_KEY])
_SHORT_JSON: Final = bytes([_VALUE_JSON & 0x7F | 0x80, _VALUE_JSON >> 7])
_LONG: Final = 0x80  # lengths from here on take more than a byte
_DEEPEST: Final = 64


def _json(data: bytes) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return _fast_json(data)
    except msgspec.DecodeError:  # W&B writes NaN and Infinity bare, which only Python's decoder reads
        return json.loads(data)


_fast_json: Final = msgspec.json.Decoder().decode

# Typed values, written next to `value_json` from wandb 0.31 on and in its stead one day.
_TYPED: Final[dict[int, Callable[[Any], Any]]] = {
    _tag(3, _VARINT): lambda _: None,
    _tag(4, _VARINT): bool,
    _tag(5, _VARINT): _zigzag,
    _tag(6, _FIXED64): lambda data: struct.unpack("<d", data)[0],
    _tag(7): bytes.decode,
    _tag(8): json.loads,
}


def _read_row(message: bytes, row: dict[str, Any]) -> None:
    for tag, data in _fields(message):
        if tag == _ITEM:
            flat = _flat_item(data)
            if flat:
                row[flat[0]] = flat[1]
            else:
                _put(row, *_item(data))
        elif tag == _STEP:
            row.setdefault("_step", next((_signed(v) for t, v in _fields(data) if t == _STEP_NUM), 0))


def _flat_item(message: bytes) -> tuple[str, Any] | None:
    """Read the shape of nearly every item, a short name and a short JSON value, at twice the speed."""
    size = message[1] if message[:1] == _SHORT_NAME else _LONG
    if size < _LONG and message[2 + size : 4 + size] == _SHORT_JSON:
        data = message[5 + size :]
        if len(data) == message[4 + size] < _LONG:
            return _name(message[2 : 2 + size]), _json(data)
    return None


def _item(message: bytes) -> tuple[list[str], Any]:
    path, text, typed = [], b"null", None
    for tag, data in _fields(message):
        if tag in {_KEY, _NESTED_KEY}:
            path.append(_name(data))
        elif tag == _VALUE_JSON:
            text = data
        elif tag in _TYPED:
            typed = tag, data
    return path or [""], _json(text) if typed is None else _TYPED[typed[0]](typed[1])


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401  # any JSON value
    if len(path) > _DEEPEST:
        raise _MalformedError
    for name in path[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[path[-1]] = value


def _read_run(message: bytes, run: Run) -> None:
    for tag, data in _fields(message):
        if tag in _RUN_TEXTS:
            setattr(run, _RUN_TEXTS[tag], data.decode())
        elif tag == _START_TIME:
            at = dict(_fields(data))
            run.start_time = at.get(_SECONDS, 0) + at.get(_NANOS, 0) / 1e9
        elif tag == _RUN_CONFIG:
            _read_config(data, run)


def _read_config(message: bytes, run: Run) -> None:
    for tag, data in _fields(message):
        if tag in {_UPDATE, _REMOVE}:
            path, value = _item(data)
            _put(run.config, path, value) if tag == _UPDATE else _drop(run.config, path)


def _drop(tree: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        inner = tree.get(name)
        tree = inner if isinstance(inner, dict) else {}
    tree.pop(path[-1], None)


def _read_exit(message: bytes, run: Run) -> None:
    run.exit_code = next((_signed(value) for tag, value in _fields(message) if tag == _EXIT_CODE), 0)


_RUN_READERS: Final[dict[int, Callable[[bytes, Run], None]]] = {
    _RUN: _read_run,
    _CONFIG: _read_config,
    _EXIT: _read_exit,
}
