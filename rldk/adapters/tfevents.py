"""Which scalars does a TensorBoard event file hold?

It is a row of records with checksums (https://www.tensorflow.org/tutorials/load_data/tfrecord), each a
protobuf message `Event`: https://github.com/tensorflow/tensorboard/blob/2.20.0/tensorboard/compat/proto.
A damaged file gives every scalar that is still whole, and what is lost is counted.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from rldk.adapters import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Scalars(NamedTuple):
    """The numbers of one record: when it was written, in seconds since the epoch, and at which step."""

    time: float
    step: int
    values: list[tuple[str, int | float]]


@dataclass
class Damage:
    """What a file holds that is no scalar, counted.

    Attributes:
        places: Stretches of bytes that are no record.
        garbled: Records with a wrong checksum, or that are no message.
        torn: Whether the file ends inside a record.
        lost: Whether the search behind damage was given up before the end.
        others: Tags of summaries that are no scalars, such as histograms, to how many there are.
    """

    places: int = 0
    garbled: int = 0
    torn: bool = False
    lost: bool = False
    others: dict[str, int] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """Say it to people; empty where nothing is lost."""
        some = ", ".join(sorted(self.others)[:_TAGS_SHOWN])
        counted: dict[str, int] = {
            f"{self.places} damaged places were skipped": self.places,
            f"{self.garbled} records are damaged and were skipped": self.garbled,
            "it ends inside a record: the run was killed, is still writing, or was copied in part": self.torn,
            "nothing is found behind the damage, and the rest is not read": self.lost,
            f"{sum(self.others.values())} summaries are no scalars and were skipped: {some}": len(
                self.others
            ),
        }
        return [sentence for sentence, count in counted.items() if count]


_TAGS_SHOWN: Final = 5
_MOST_TAGS: Final = 1000
_LONGEST_RECORD: Final = 64 * 2**20
_HEAD: Final = struct.Struct("<QI")
_CHECKSUM: Final = struct.Struct("<I")
_VERSION_MARK: Final = b"brain.Event:"


def is_event_file(path: Path) -> bool:
    """Whether a file begins as event files do; False where it cannot be read."""
    head = limits.head(path, 64)
    if len(head) < _HEAD.size:
        return False
    return _HEAD.unpack_from(head)[1] == _head_checksum(head[:8]) and _VERSION_MARK in head


def scalars(path: Path, damage: Damage) -> Iterator[Scalars]:
    """Read the records that hold scalars, one at a time, and count what else there is.

    Raises:
        SourceError: The file cannot be opened.
    """
    with limits.opened(path) as file:
        for data, checksum in _records(file, damage):
            try:
                found = _scalars(data, damage)
            except _UNDECODABLE:
                damage.garbled += 1
                continue
            if (found.values or len(data) < _SHORT) and _masked(_crc(data)) != checksum:
                damage.garbled += 1
            elif found.values:
                yield found


_SHORT: Final = 2**16  # a checksum costs 60 ns a byte here, and an image has a million


def _records(file: BinaryIO, damage: Damage) -> Iterator[tuple[bytes, int]]:
    """Give each record's data and checksum."""
    search = _MOST_TRIES
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            damage.torn = True
            return
        length, checksum = _HEAD.unpack(head)
        if checksum != _head_checksum(head[:8]):
            damage.places += 1
            search = _seek_record(file, search)
            if not search:
                damage.lost = True
                return
            continue
        if length > _LONGEST_RECORD:
            damage.garbled += 1
            file.seek(length + _CHECKSUM.size, 1)
            continue
        data, tail = file.read(length), file.read(_CHECKSUM.size)
        if len(tail) < _CHECKSUM.size:
            damage.torn = True
            return
        yield data, _CHECKSUM.unpack(tail)[0]


_MOST_TRIES: Final = 200_000
_WINDOW: Final = 2**20
_LENGTH: Final = re.compile(rb"(?=[\0-\xff]{4}\0{4})")  # what is shorter than 4 GiB, as all records are


def _seek_record(file: BinaryIO, search: int) -> int:
    """Go to the next record behind damage, and give how many tries are left; 0 where none is found."""
    start = file.tell() - _HEAD.size + 1
    while search:
        file.seek(start)
        window = file.read(_WINDOW)
        for match in _LENGTH.finditer(window):
            if match.start() + _HEAD.size > len(window) or not search:
                break
            search -= 1
            head = window[match.start() : match.start() + _HEAD.size]
            if _HEAD.unpack(head)[1] == _masked(_crc(head[:8])):
                file.seek(start + match.start())
                return max(search, 1)
        if len(window) < _WINDOW:
            return 0
        start += _WINDOW - _HEAD.size
    return 0


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # CRC-32C, Castagnoli
        table.append(crc)
    return table


_TABLE: Final = _table()


def _crc(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@lru_cache(maxsize=4096)
def _head_checksum(length: bytes) -> int:
    return _masked(_crc(length))


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_UNDECODABLE: Final = (ValueError, IndexError, struct.error, UnicodeDecodeError)
_Message = list[tuple[int, Any]]

# Field numbers and wire types, as they stand in a message: event.proto, summary.proto, tensor.proto
_EVENT_TIME, _EVENT_STEP, _EVENT_SUMMARY = 1 << 3 | _FIXED64, 2 << 3 | _VARINT, 5 << 3 | _BYTES
_SUMMARY_VALUE = 1 << 3 | _BYTES
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1 << 3 | _BYTES, 2 << 3 | _FIXED32, 8 << 3 | _BYTES
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT = 1 << 3 | _VARINT, 2 << 3 | _BYTES, 4 << 3 | _BYTES
_SHAPE_DIM, _DIM_SIZE = 2 << 3 | _BYTES, 1 << 3 | _VARINT

_DTYPES: Final = {1: ("<f", 5), 2: ("<d", 6), 3: ("<i", 7), 9: ("<q", 10)}
"""DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64 to their form, and to the field that holds them one by one."""


def _scalars(data: bytes, damage: Damage) -> Scalars:
    time, step = 0.0, 0
    values: list[tuple[str, int | float]] = []
    for head, value in _fields(data):
        if head == _EVENT_TIME:
            (time,) = struct.unpack("<d", value)
        elif head == _EVENT_STEP:
            step = _signed(value)
        elif head == _EVENT_SUMMARY:
            values += [
                found
                for head, inner in _fields(value)
                if head == _SUMMARY_VALUE and (found := _value(inner, damage)) is not None
            ]
    return Scalars(time, step, values)


def _value(data: bytes, damage: Damage) -> tuple[str, int | float] | None:
    tag = ""
    number: int | float | None = None
    for head, value in _fields(data):
        if head == _VALUE_TAG:
            tag = value.decode()
        elif head == _VALUE_SIMPLE:
            (number,) = struct.unpack("<f", value)
        elif head == _VALUE_TENSOR:
            number = _scalar(value)
    if number is not None:
        return tag, number
    known = tag if tag in damage.others or len(damage.others) < _MOST_TAGS else "others"
    damage.others[known] = damage.others.get(known, 0) + 1
    return None


def _scalar(data: bytes) -> int | float | None:
    """Read a tensor of one number; None for any other."""
    message = _fields(data)
    told = dict(message)
    dims = [dict(_fields(dim)) for head, dim in _fields(told.get(_TENSOR_SHAPE, b"")) if head == _SHAPE_DIM]
    form, number = _DTYPES.get(told.get(_TENSOR_TYPE, 0), ("", 0))
    if not form or prod(dim.get(_DIM_SIZE, 0) for dim in dims) != 1:
        return None
    packed = told.get(_TENSOR_CONTENT) or told.get(number << 3 | _BYTES)
    if packed is None:
        return None
    if packed is told.get(_TENSOR_CONTENT) or form in {"<f", "<d"}:
        found: int | float = struct.unpack(form, packed)[0]
        return found
    return _signed(_varint(packed, 0)[0])


def _fields(data: bytes) -> _Message:
    """Cut a message into its fields: https://protobuf.dev/programming-guides/encoding/."""
    found: _Message = []
    pos, end = 0, len(data)
    while pos < end:
        head, pos = _varint(data, pos)
        wire = head & 7
        if wire == _VARINT:
            value, pos = _varint(data, pos)
            found.append((head, value))
            continue
        if wire == _BYTES:
            size, pos = _varint(data, pos)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, end)
        pos += size
        if pos > end:
            raise ValueError("a field goes beyond its message")
        found.append((head, data[pos - size : pos]))
    return found


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = data[pos]
    if value < 0x80:  # noqa: PLR2004  # the bit that says: more follows
        return value, pos + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        pos += 1
        value |= (data[pos] & 0x7F) << shift
        if data[pos] < 0x80:  # noqa: PLR2004  # the same
            return value & 0xFFFF_FFFF_FFFF_FFFF, pos + 1
    raise ValueError("a number is too long")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
