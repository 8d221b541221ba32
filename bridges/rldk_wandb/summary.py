"""What does W&B show as a run's numbers, by all the changes of which a file tells?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rldk_wandb.items import path_of, put, read_item
from rldk_wandb.wire import UNDECODABLE, fields, tag

if TYPE_CHECKING:
    from rldk_wandb.blocks import Damage

_UPDATE, _REMOVE = tag(1), tag(2)  # of SummaryRecord
_NO_REST: Final = re.compile(b"")


class Summary:
    """The last word on each entry.

    W&B writes the entries of a row again with each row, so the changes are read in batches.

    Args:
        damage: Where messages and entries are counted that cannot be read.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._values: dict[tuple[str, ...] | str, Any] = {}
        """By name; by path an item, as bytes, that is read when it is the last."""
        self._waiting: dict[bytes, int] = {}

    def change(self, message: bytes) -> None:
        """Take in one more change."""
        from rldk_wandb.bulk import BATCH

        # To do the same once more, later, makes up for the first time: all rows bring the same `runtime`.
        self._waiting[message] = self._waiting.pop(message, 0) + 1
        if len(self._waiting) >= BATCH:
            self._read_waiting()

    def entries(self) -> dict[str, Any]:
        """All that is left; nested where it was nested."""
        self._read_waiting()
        tree: dict[str, Any] = {}
        for path, value in self._values.items():
            try:
                read = read_item(value)[1] if isinstance(value, bytes) else value
                put(tree, [path] if isinstance(path, str) else list(path), read)
            except UNDECODABLE:
                self._damage.unread += 1
        return tree

    def _read_waiting(self) -> None:
        from rldk_wandb import bulk

        waiting, self._waiting = self._waiting, {}
        for message, numbers in zip(waiting, bulk.objects(list(waiting), _NO_REST), strict=True):
            if numbers is not None:
                self._values.update(numbers)
                continue
            try:
                self._read(message)
            except UNDECODABLE:
                self._damage.unread += waiting[message]

    def _read(self, message: bytes) -> None:
        for head, item in fields(message):
            if head == _UPDATE:
                self._values[_key(path_of(item))] = item
            elif head == _REMOVE:
                self._remove(path_of(item))

    def _remove(self, gone: tuple[str, ...]) -> None:
        for key in list(self._values):
            if ((key,) if isinstance(key, str) else key)[: len(gone)] == gone:
                del self._values[key]


def _key(path: tuple[str, ...]) -> tuple[str, ...] | str:
    return path[0] if len(path) == 1 else path
