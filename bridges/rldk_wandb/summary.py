"""What does W&B show as a run's numbers, by all the changes of which a file tells?

wandb-core writes the numbers of each row twice, as the row and before it as a change of the summary. Both
come out of one Go map, so that the second is the first, begun at another item. Such a change is not read:
the row, which is read anyway, says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from rldk_wandb.items import path_of, put, read_item
from rldk_wandb.wire import UNDECODABLE, fields, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rldk_wandb.blocks import Damage

_UPDATE, _REMOVE = tag(1), tag(2)  # of SummaryRecord
_ITEM: Final = b"\n"  # as which an item begins, in a change and in a row
_MOST: Final = 256

_T = TypeVar("_T")


class Summary:
    """The last word on each entry: first all messages of a file go by, then its rows once more.

    Args:
        damage: Where messages and entries are counted that cannot be read.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._last: bytes | None = None
        self._changes: dict[bytes, int] = {}  # that no row says, and how many rows were before each
        self._most = _MOST
        self._is_said = bytearray()  # whether the change before each row is that row
        self._values: dict[
            tuple[str, ...] | str, Any
        ] = {}  # by path an item, as bytes, read when it is the last
        self._replayed = 0

    def pass_change(self, message: bytes) -> None:
        """Let one more change go by."""
        self._keep()
        self._last = message

    def pass_row(self, message: bytes) -> None:
        """Let a row go by."""
        is_said = self._last is not None and _is_turned(self._last, message)
        if is_said:
            self._last = None
        self._is_said.append(is_said)

    def _keep(self) -> None:
        """Keep the last change, but the same one only once: to make it later is to make it."""
        if self._last is not None:
            self._changes.pop(self._last, None)
            self._changes[self._last] = len(self._is_said)
            self._last = None
        if len(self._changes) > self._most:
            self._forget()

    def _forget(self) -> None:
        """Drop changes of which a later one sets the same entries, so that memory is bounded by the names."""
        latest: dict[object, tuple[bytes, int]] = {}
        for message, rows in self._changes.items():
            entries = self._guarded(_entries, message)
            latest.pop(entries, None)
            latest[entries] = message, rows
        self._changes = dict(latest.values())
        self._most = _MOST + 2 * len(self._changes)

    def replay_row(self, message: bytes, numbers: Mapping[str, Any] | None) -> None:
        """Follow the changes that came before a row, and the one that it says.

        Args:
            message: The row.
            numbers: What it says, where that is known to be numbers by name.
        """
        self._change_until(self._replayed)
        if self._is_said[self._replayed] and numbers is not None:
            self._values.update(numbers)
        elif self._is_said[self._replayed]:
            self._guarded(self._update, message)
        self._replayed += 1

    def _change_until(self, rows: int) -> None:
        while self._changes and next(iter(self._changes.values())) <= rows:
            message = next(iter(self._changes))
            del self._changes[message]
            self._guarded(self._change, message)

    def _update(self, message: bytes) -> None:
        self._values.update((_key(path_of(item)), item) for head, item in fields(message) if head == _UPDATE)

    def _change(self, message: bytes) -> None:
        for head, item in fields(message):
            if head == _UPDATE:
                self._values[_key(path_of(item))] = item
            elif head == _REMOVE:
                self._remove(path_of(item))

    def _remove(self, gone: tuple[str, ...]) -> None:
        for key in list(self._values):
            if ((key,) if isinstance(key, str) else key)[: len(gone)] == gone:
                del self._values[key]

    def entries(self) -> dict[str, Any]:
        """All that is left when all rows were replayed; nested where it was nested."""
        self._keep()
        self._change_until(len(self._is_said))
        tree: dict[str, Any] = {}
        for key, value in self._values.items():
            path = [key] if isinstance(key, str) else list(key)
            self._guarded(lambda value, path: put(tree, path, _read(value)), value, path)
        return tree

    def _guarded(self, act: Callable[..., _T], *arguments: object) -> _T | None:
        try:
            return act(*arguments)
        except UNDECODABLE:
            self._damage.unread += 1
            return None


def _is_turned(change: bytes, row: bytes) -> bool:
    """Whether a row has the same items as a change and no more, in the same order but for where it begins."""
    begin, end = row.find(change[: change[1] + 2]) if len(change) > 1 else -1, len(change)
    return begin >= 0 and row[begin:end] + row[:begin] == change and row[end : end + 1] != _ITEM


def _entries(message: bytes) -> object:
    """What a change sets; the change itself if it removes something, which is never dropped."""
    told = list(fields(message))
    removes = any(head == _REMOVE for head, _ in told)
    return message if removes else frozenset(path_of(item) for head, item in told if head == _UPDATE)


def _key(path: tuple[str, ...]) -> tuple[str, ...] | str:
    return path[0] if len(path) == 1 else path


def _read(value: object) -> object:
    return read_item(value)[1] if isinstance(value, bytes) else value
