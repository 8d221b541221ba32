"""How is a protobuf message cut into its fields: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST: Final = 70  # bits
_MORE: Final = 0x80  # the bit that says: more follows


class MalformedError(ValueError):
    """Bytes that are no message."""


UNDECODABLE: Final = (ValueError, IndexError, RecursionError)
"""What reading bytes that are no message raises."""


def tag(number: int, wire: int = BYTES) -> int:
    """A field's number and wire type, as they stand in a message."""
    return number << 3 | wire


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Give each field's tag, and an int or bytes as the tag's wire type has it.

    Raises:
        MalformedError: The message is none; IndexError, where it ends inside a number.
    """
    pos = 0
    while pos < len(data):
        head, pos = varint(data, pos)
        wire = head & 7
        if wire == VARINT:
            value, pos = varint(data, pos)
            yield head, value
            continue
        if wire == BYTES:
            size, pos = varint(data, pos)
        else:
            size = {FIXED64: 8, _FIXED32: 4}.get(wire, len(data))
        pos += size
        if pos > len(data):
            raise MalformedError
        yield head, data[pos - size : pos]


def varint(data: bytes, pos: int) -> tuple[int, int]:
    """Read a number, and tell where it ends.

    Raises:
        MalformedError: It is longer than 64 bits; IndexError, where the data end inside of it.
    """
    value = data[pos]
    if value < _MORE:
        return value, pos + 1
    byte = data[pos + 1]
    if byte < _MORE:
        return value & 0x7F | byte << 7, pos + 2
    value = value & 0x7F | (byte & 0x7F) << 7
    for shift in range(14, _LONGEST, 7):
        pos += 1
        byte = data[pos + 1]
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value & 0xFFFF_FFFF_FFFF_FFFF, pos + 2
    raise MalformedError


def signed(value: int) -> int:
    """Read a varint as int32 or int64."""
    return value - (1 << 64) if value >> 63 else value


def zigzag(value: int) -> int:
    """Read a varint as sint64."""
    return value >> 1 ^ -(value & 1)
