"""How a line is written: the append-only file of events, and reading it from an offset."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from rldk import event as event_json
from rldk.errors import EventFormatError, JournalError, JournalLockedError

try:
    import fcntl
except ImportError:  # Windows has no flock; there two writers of one journal are not told apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from rldk.event import Event

_logger = logging.getLogger(__name__)

SUFFIX: Final = "_events.jsonl"
MAX_LINE_BYTES: Final = 64 * 2**20
_LINE_BEGINS: Final = b'{"v":'
_TAIL_STEP: Final = 64 * 2**10


class Entry(NamedTuple):
    """One line of a journal: where it ends, and its event or why it holds none."""

    end: int
    event: Event | None
    reason: str = ""


class Journal:
    """The journal of one run, open for appending by one process.

    On opening, a last line that a crash tore is cut off; whole lines are never touched. Each
    `append` is one write to the operating system, so a killed process loses nothing that was
    appended.

    Attributes:
        path: The file.
        last: The last event in the file; None while it holds none.

    Raises:
        JournalError: The file cannot be created, or was not written by RLDK.
        JournalLockedError: Another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_locked(path)
        self._end = _repair_tail(path, self._file)
        self.last = last_event(path)

    @property
    def end(self) -> int:
        """Offset just behind the last whole line, in bytes."""
        return self._end

    def append(self, event: Event) -> None:
        """Write one event, and remember it as the `last`.

        Raises:
            JournalError: The disk is full or gone. The file still ends with a whole line.
            EventFormatError: The event holds something that JSON cannot.
        """
        line = event_json.encode(event) + b"\n"
        try:
            if os.fstat(self._file.fileno()).st_nlink == 0:
                self._put_back()
            self._write(line)
        except OSError as error:
            raise JournalError(self.path, str(error), "free the disk or choose another output_dir") from error
        self._end += len(line)
        self.last = event

    def _put_back(self) -> None:
        """Somebody removed the file: write it anew, whole, from the one that is still open."""
        _logger.warning("journal %s was removed while in use; it is put back", self.path)
        removed, self._file = self._file, _open_locked(self.path)
        removed.seek(0)
        shutil.copyfileobj(removed, self._file)
        removed.close()

    def _write(self, line: bytes) -> None:
        try:
            done = self._file.write(line)
            while done < len(line):
                done += self._file.write(line[done:])
        except OSError:
            self._file.truncate(self._end)
            raise

    def close(self) -> None:
        """Flush to the disk and let other processes write."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, offset: int = 0) -> Iterator[Entry]:
    """Read whole lines from an offset on; a line that is still being written is left for later.

    A line that holds no event, or is longer than 64 MiB, comes as an entry with the reason.
    Memory is bounded by one line.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while line := file.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n"):
                if len(line) < MAX_LINE_BYTES or not _skip_line(file):
                    return
                yield Entry(file.tell(), None, f"longer than {MAX_LINE_BYTES >> 20} MiB")
            elif line != b"\n":
                yield _entry(line, file.tell())


def last_event(path: Path) -> Event | None:
    """Find the last event of a journal, searching from its end."""
    with path.open("rb") as file:
        for start in range(_tail_start(file), -_TAIL_STEP, -_TAIL_STEP):
            offset = _line_start(file, max(start, 0))
            events = [e.event for e in read(path, offset) if e.event is not None]
            if events:
                return events[-1]
    return None


def _entry(line: bytes, end: int) -> Entry:
    try:
        return Entry(end, event_json.decode(line))
    except EventFormatError as error:
        return Entry(end, None, error.reason)


def _skip_line(file: BinaryIO) -> bool:
    while rest := file.readline(MAX_LINE_BYTES):
        if rest.endswith(b"\n"):
            return True
    return False


def _tail_start(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END) - _TAIL_STEP


def _line_start(file: BinaryIO, offset: int) -> int:
    file.seek(max(offset - 1, 0))
    if offset:
        file.readline(MAX_LINE_BYTES)
    return file.tell()


def _open_locked(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise JournalError(path, str(error), "choose a writable output_dir") from error
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise JournalLockedError(path) from error
    return file


def _repair_tail(path: Path, file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size
    end = _end_of_last_line(path, size)
    if end == size:
        return size
    with path.open("rb") as reader:
        reader.seek(end)
        tail = reader.read(MAX_LINE_BYTES)
    if _entry(tail, size).event is not None:  # whole but for its newline, as some editors leave it
        file.write(b"\n")
        return size + 1
    if not (tail.startswith(_LINE_BEGINS) or _LINE_BEGINS.startswith(tail)):
        file.close()
        remedy = "move the file away, or choose another run_id or output_dir"
        raise JournalError(path, "its last line was not written by RLDK", remedy)
    _logger.warning("journal %s: cut off its torn last line (%d bytes)", path, size - end)
    file.truncate(end)
    return end


def _end_of_last_line(path: Path, size: int) -> int:
    with path.open("rb") as file:
        for start in range(size - _TAIL_STEP, -_TAIL_STEP, -_TAIL_STEP):
            file.seek(max(start, 0))
            newline = file.read(min(_TAIL_STEP, start + _TAIL_STEP)).rfind(b"\n")
            if newline >= 0:
                return max(start, 0) + newline + 1
    return 0
