"""How is a growing journal read: its new bytes alone, and of a long one at first only what is needed."""

from __future__ import annotations

import os
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from rldk import event as event_json
from rldk import journal
from rldk.errors import EventFormatError
from rldk.tail.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from rldk.event import Event

_SHORT_BYTES: Final = 4 * 2**20
_ENDS_BYTES: Final = 512 * 2**10
_SAMPLES: Final = 256
_SAMPLE_BYTES: Final = 16 * 2**10
_LINES_PER_SAMPLE: Final = 4
_CHUNK_BYTES: Final = 8 * 2**20
_MOST_SPOKEN: Final = 2000
_MARK_BYTES: Final = 256

_SPOKEN: Final = re.compile(rb'"kind":"(?:run|alert|end)"')


class Follower:
    """Keeps a state up to date with a journal, which may grow, be cut, replaced, removed and put back.

    Args:
        path: The journal.

    Attributes:
        state: What its events tell.
        trouble: Why it cannot be read now; empty where it can.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self.trouble = ""
        self._offset = 0
        self._file: tuple[int, int] | None = None
        self._mark = b""
        self._begins = b""
        self._reason = "no line can be read"

    @property
    def foreign(self) -> str:
        """Why it is no journal: there is something to read, and none of it is an event or begins as one.

        Empty where it is one, or may become one.
        """
        if self.trouble or self.state.last_seq >= 0 or not self._begins:
            return ""
        head = self._begins[: len(journal.LINE_BEGINS)]
        if not journal.LINE_BEGINS.startswith(head):
            return "it holds no event: this is no journal"
        return f"it holds no event: {self._reason}" if self._offset else ""

    def read(self) -> bool:
        """Read what is new, and say whether there was anything."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                size = found.st_size
                if self._is_another((found.st_dev, found.st_ino), size, file):
                    self._begin(size, file)
                self.trouble = ""
            return self._go_on(size)
        except FileNotFoundError:
            self.trouble = "the journal is not there; waiting for it"
        except OSError as error:
            self.trouble = f"the journal cannot be read: {error.strerror or error}"
        return False

    def _is_another(self, identity: tuple[int, int], size: int, file: BinaryIO) -> bool:
        begins = file.read(_MARK_BYTES)
        is_same = identity == self._file and size >= self._offset and begins.startswith(self._mark)
        self._file, self._begins = identity, begins
        if is_same:
            self._mark = begins  # of what was written whole no byte ever changes
        return not is_same

    def _begin(self, size: int, file: BinaryIO) -> None:
        self.state, self._offset = State(), 0
        if size > _SHORT_BYTES:
            self.state.is_thinned = True
            self._offset = self._thinned(size, file)
        self._mark = b""

    def _go_on(self, size: int) -> bool:
        if size <= self._offset:
            return False
        before = self._offset
        for entry in journal.read(self.path, self._offset):
            if entry.event is None:
                self.state.unreadable += 1
                self._reason = entry.reason
            else:
                self.state.take(entry.event)
            self._offset = entry.end
        return self._offset != before

    def _thinned(self, size: int, file: BinaryIO) -> int:
        """Read both ends, samples between, and whatever tells of starts, alerts and the end."""
        lines: dict[int, bytes] = {}
        lines |= dict(_lines(file, 0, _ENDS_BYTES, is_whole=True))
        behind = size - _ENDS_BYTES
        for number in range(_SAMPLES):
            at = _ENDS_BYTES + (behind - _ENDS_BYTES) * number // _SAMPLES
            lines |= dict(list(_lines(file, at, _SAMPLE_BYTES))[:_LINES_PER_SAMPLE])
        lines |= dict(_spoken(file, size))
        lines |= dict(_lines(file, behind, _ENDS_BYTES))
        for at in sorted(lines):
            event = _event(lines[at])
            if event is not None:
                self.state.take(event)
        end = max((at + len(line) + 1 for at, line in lines.items()), default=0)
        return min(end, size)


def _lines(file: BinaryIO, start: int, count: int, *, is_whole: bool = False) -> Iterator[tuple[int, bytes]]:
    """Give the whole lines among some bytes, with their places.

    Args:
        file: The journal.
        start: The first byte.
        count: How many.
        is_whole: Whether a line begins at `start`.
    """
    file.seek(start)
    block = file.read(count)
    first = 0 if is_whole else block.find(b"\n") + 1
    if not is_whole and first == 0:
        return
    while (end := block.find(b"\n", first)) >= 0:
        yield start + first, block[first:end]
        first = end + 1


def _spoken(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Find the lines of starts, alerts and ends: the first and the last few thousand of them."""
    first: list[tuple[int, bytes]] = []
    last: deque[tuple[int, bytes]] = deque(maxlen=_MOST_SPOKEN)
    rest, at = b"", 0
    file.seek(0)
    while at < size and (block := file.read(min(_CHUNK_BYTES, size - at))):
        text, begins = rest + block, at - len(rest)
        at += len(block)
        cut = text.rfind(b"\n") + 1
        for found in _SPOKEN.finditer(text, 0, cut):
            start = text.rfind(b"\n", 0, found.start()) + 1
            line = begins + start, text[start : text.find(b"\n", found.start())]
            (last if len(first) >= _MOST_SPOKEN else first).append(line)
        rest = text[cut:] if len(text) - cut <= journal.MAX_LINE_BYTES else b""
    yield from first
    yield from last


def _event(line: bytes) -> Event | None:
    try:
        return event_json.decode(line)
    except EventFormatError:
        return None
