"""How is one item of history, config or summary decoded: a name, which may be nested, and a value."""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk_wandb.wire import FIXED64, VARINT, MalformedError, fields, signed, tag, zigzag

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH: Final = 256
BATCH_BYTES: Final = 2**20
"""So many messages, and so many bytes of them, are best read together: they stay in the processor's cache."""

# HistoryRecord and HistoryStep; HistoryItem, ConfigItem and SummaryItem: the fields that are read, with
# the numbers that wandb_internal.proto gives them.
_ITEM, _STEP, _STEP_NUM = tag(1), tag(2), tag(1, VARINT)
_KEY, _NESTED_KEY, _VALUE_JSON = tag(1), tag(2), tag(16)

_SHORT_NAME: Final = bytes([_NESTED_KEY])
_SHORT_JSON: Final = bytes([_VALUE_JSON & 0x7F | 0x80, _VALUE_JSON >> 7])
_LONG: Final = 0x80  # lengths from here on take more than a byte
_DEEPEST: Final = 64

# Typed values, written next to `value_json` from wandb 0.31 on and in its stead one day.
_TYPED: Final[dict[int, Callable[[Any], Any]]] = {
    tag(3, VARINT): lambda _: None,
    tag(4, VARINT): bool,
    tag(5, VARINT): zigzag,
    tag(6, FIXED64): lambda data: struct.unpack("<d", data)[0],
    tag(7): bytes.decode,
    tag(8): json.loads,
}


def mark(key: str | None) -> bytes:
    """How a row's key of up to 127 letters stands in its message; the values' JSON cannot hold it."""
    name = b"" if key is None else key.encode()
    return bytes([_NESTED_KEY, len(name)]) + name if name else b""


def read_row(message: bytes, row: dict[str, Any]) -> None:
    """Read a row of the history.

    Raises:
        UNDECODABLE: It is none.
    """
    for head, data in fields(message):
        if head == _ITEM:
            flat = _flat_item(data)
            if flat:
                row[flat[0]] = flat[1]
            else:
                put(row, *read_item(data))
        elif head == _STEP:
            row.setdefault("_step", next((signed(v) for t, v in fields(data) if t == _STEP_NUM), 0))


def read_item(message: bytes) -> tuple[list[str], Any]:
    """Read an item's name, outermost first, and its value.

    Raises:
        UNDECODABLE: It is none.
    """
    path, text, typed = [], b"null", None
    for head, data in fields(message):
        if head in {_KEY, _NESTED_KEY}:
            path.append(_name(data))
        elif head == _VALUE_JSON:
            text = data
        elif head in _TYPED:
            typed = head, data
    return path or [""], _json(text) if typed is None else _TYPED[typed[0]](typed[1])


def path_of(item: bytes) -> tuple[str, ...]:
    """Read an item's name alone, outermost first.

    Raises:
        UNDECODABLE: It is none.
    """
    size = item[1] if item[:1] == _SHORT_NAME else _LONG
    if size < _LONG and item[2 + size : 4 + size] == _SHORT_JSON:
        return (_name(item[2 : 2 + size]),)
    return tuple(_name(data) for head, data in fields(item) if head in {_KEY, _NESTED_KEY})


def put(tree: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Set what a name stands for.

    Raises:
        MalformedError: It is nested too deep.
    """
    if len(path) > _DEEPEST:
        raise MalformedError
    for name in path[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[path[-1]] = value


def drop(tree: dict[str, Any], path: list[str]) -> None:
    """Forget a name, if it is there."""
    for name in path[:-1]:
        inner = tree.get(name)
        tree = inner if isinstance(inner, dict) else {}
    tree.pop(path[-1], None)


def _flat_item(message: bytes) -> tuple[str, Any] | None:
    """Read the shape of nearly every item, a short name and a short JSON value, at twice the speed."""
    size = message[1] if message[:1] == _SHORT_NAME else _LONG
    if size < _LONG and message[2 + size : 4 + size] == _SHORT_JSON:
        data = message[5 + size :]
        if len(data) == message[4 + size] < _LONG:
            return _name(message[2 : 2 + size]), _json(data)
    return None


@lru_cache(maxsize=4096)
def _name(data: bytes) -> str:
    return data.decode()


def _json(data: bytes) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return _fast_json(data)
    except msgspec.DecodeError:  # W&B writes NaN and Infinity bare, which only Python's decoder reads
        return json.loads(data)


_fast_json: Final = msgspec.json.Decoder().decode
