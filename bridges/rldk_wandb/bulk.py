"""How are many messages of items read at once, at many times the speed of one after the other?

Nearly every row is numbers under short names. Such a message is a JSON object but for a few bytes around
each name. These are found and checked for all rows of a batch together, and JSON is written over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_decode: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode
_BEGIN, _BETWEEN, _END = b"[{", b"},{", b"}]   "  # spaces, for one may look behind a message's end

# An item is 0a LENGTH 12 LENGTH name 82 01 LENGTH value; in old files, 0a LENGTH 0a ...
_ITEM, _KEY, _NESTED_KEY, _VALUE, _VALUE_2 = 0x0A, 0x0A, 0x12, 0x82, 0x01
_SPACE: Final = 0x20
_STEP, _NUM = 0x12, 0x08
_LONG: Final = 0x80  # lengths from here on take more than a byte


def objects(messages: Sequence[bytes], *, steps: bool = False) -> list[dict[str, Any] | None]:
    """Read the messages that are numbers under short names; None for each other one.

    Args:
        messages: A batch of them.
        steps: Whether a HistoryStep may stand in a message behind its items.
    """
    if not messages:
        return []
    batch = _Batch(messages)
    batch.leave_out(~batch.are_items(steps=steps))
    batch.write_json()
    batch.leave_out(batch.hold_text())
    read = batch.decoded()
    if read is None:
        batch.leave_out(batch.hold_no_json())
        read = batch.decoded()
    if read is None or len(read) != len(messages):  # what stands for a value is none
        return [None] * len(messages)
    return [row or None for row in read]


class _Batch:
    """Messages one after the other, and where in them everything is."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._text = bytearray(_BEGIN + _BETWEEN.join(messages) + _END)
        self._bytes = np.frombuffer(self._text, np.uint8)
        sizes = np.array([len(message) for message in messages])
        self._ends: Places = np.cumsum(sizes + len(_BETWEEN)) + len(_BEGIN) - len(_BETWEEN)
        self._begins: Places = self._ends - sizes
        self._find_items()

    def _find_items(self) -> None:
        """Take each tag of a value for an item's, which begins where the value before it has ended."""
        text = self._bytes
        tags = np.flatnonzero(text == _VALUE)
        self._tags: Places = tags[text[tags + 1] == _VALUE_2]
        tags = self._tags
        counts = np.diff(np.searchsorted(tags, self._ends), prepend=0)
        self._of: Places = np.repeat(np.arange(len(counts)), counts)
        self._sizes: Places = text[tags + 2].astype(np.int64)
        after = tags + 3 + self._sizes
        self._is_first = np.diff(self._of, prepend=-1) > 0
        begins = np.where(self._is_first, self._begins[self._of], np.roll(after, 1))
        self._items: Places = np.minimum(begins, tags)
        self._rests: Places = self._begins.copy()
        self._rests[self._of] = after  # of several, the last

    def are_items(self, *, steps: bool) -> Flags:
        """Which messages are items, in each byte that is not of a name or a value, and perhaps a step."""
        are: Flags = (self._rests > self._begins) & (
            (self._rests == self._ends) | (steps & self._end_in_step())
        )
        are[self._of[~self._is_item()]] = False
        return are

    def _end_in_step(self) -> Flags:
        """Behind the items, 12 LENGTH 08 and a number of up to three bytes; or 12 00, which is step 0."""
        text, rests, ends = self._bytes, np.minimum(self._rests, self._ends), self._ends
        size = ends - rests
        begins = (text[rests] == _STEP) & (text[rests + 1] == size - 2)
        number = (text[rests + 2] == _NUM) & (text[ends - 1] < _LONG) & (size <= 6)  # noqa: PLR2004  # three bytes
        number &= (size < 5) | (text[ends - 2] >= _LONG)  # noqa: PLR2004  # two bytes
        number &= (size < 6) | (text[ends - 3] >= _LONG)  # noqa: PLR2004  # three bytes
        is_step: Flags = begins & ((size == 2) | ((size > 3) & number))  # noqa: PLR2004  # none, or one byte
        return is_step

    def _is_item(self) -> Flags:
        text, items = self._bytes, self._items
        head = self._tags - items
        length, key = text[items + 1], text[items + 2]
        is_key = (key == _NESTED_KEY) | (key == _KEY)
        fits = (text[items + 3] == head - 4) & (length == head + self._sizes + 1) & (length < _LONG)
        is_item: Flags = (text[items] == _ITEM) & is_key & fits
        return is_item

    def leave_out(self, unusual: Flags) -> None:
        """Make empty objects of some messages."""
        if not unusual.any():
            return
        for i in np.flatnonzero(unusual):
            self._bytes[self._begins[i] : self._ends[i]] = _SPACE
        self._rests[unusual] = self._ends[unusual]
        kept = ~unusual[self._of]
        self._tags, self._of, self._items = self._tags[kept], self._of[kept], self._items[kept]
        self._is_first = self._is_first[kept]

    def write_json(self) -> None:
        """Make objects of the messages that are still there."""
        text, items, tags = self._bytes, self._items, self._tags
        text[items] = ord(",")
        text[items[self._is_first]] = _SPACE
        text[items + 1] = text[items + 2] = text[tags + 2] = _SPACE
        text[items + 3] = text[tags] = ord('"')
        text[tags + 1] = ord(":")
        for i in np.flatnonzero(self._rests < self._ends):
            text[self._rests[i] : self._ends[i]] = _SPACE

    def hold_text(self) -> Flags:
        """In which messages there are quotes in a name or a value, or what they may escape."""
        if self._text.count(b'"') == 2 * len(self._tags) and b"\\" not in self._text:
            return np.zeros(len(self._ends), bool)
        own = 2 * np.bincount(self._of, minlength=len(self._ends))
        texts = zip(self._texts(), own.tolist(), strict=True)
        return np.array([text.count(b'"') != quotes or b"\\" in text for text, quotes in texts])

    def hold_no_json(self) -> Flags:
        """In which messages there are numbers that W&B writes as JSON cannot."""
        return np.array([b"NaN" in text or b"Infinity" in text for text in self._texts()])

    def _texts(self) -> list[bytearray]:
        spans = zip(self._begins.tolist(), self._ends.tolist(), strict=True)
        return [self._text[begin:end] for begin, end in spans]

    def decoded(self) -> list[dict[str, Any]] | None:
        """The objects; None where something is no JSON."""
        try:
            return _decode(self._text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
