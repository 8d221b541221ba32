"""How a line is written: the append-only file of events, and reading it from an offset."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from rldk import event as event_json
from rldk import files
from rldk.errors import EventFormatError, JournalError, JournalLockedError
from rldk.fork import close_in_child
from rldk.hiding import hidden
from rldk.redact import logger

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
    from rldk.settings import Fsync

_logger = logger(__name__)

SUFFIX: Final = "_events.jsonl"
MAX_LINE_BYTES: Final = 64 * 2**20
LINE_BEGINS: Final = b'{"v":'
_TAIL_STEP: Final = 64 * 2**10
_LOOK_S: Final = 0.5
_LOCK_TRIES: Final = 4
_LOCK_PAUSE_S: Final = 0.05
_MOST_HELD_BYTES: Final = 16 * 2**20


class Entry(NamedTuple):
    """One line of a journal: where it ends, and its event or why it holds none."""

    end: int
    event: Event | None
    reason: str = ""


class Journal:
    """The journal of one run, open for appending by one process.

    On opening, a last line that a crash tore is cut off; whole lines are never touched. Each
    `append` is one write to the operating system, so a killed process loses nothing that was
    appended. While the disk is full, up to 16 MiB of lines are held and written when it has room again.

    Args:
        path: The file; its folder is made.
        fsync: When a line must be on the disk itself; see `rldk.settings.Settings`.
        fsync_interval_s: How old a line may become with `interval`, in seconds.

    Attributes:
        path: The file.
        last: The last event that was appended; None while there is none.

    Raises:
        JournalError: The file cannot be created, or was not written by RLDK.
        JournalLockedError: Another process is writing it.
    """

    def __init__(self, path: Path, *, fsync: Fsync = "never", fsync_interval_s: float = 5.0) -> None:
        self.path = path
        self._file = _open_locked(path)
        self._end = _repair_tail(path, self._file)
        self.last = last_event(path)
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._looked_at = 0.0
        self._is_always_synced = fsync == "always"
        self._syncer = _Syncer(fsync_interval_s) if fsync == "interval" else None

    @property
    def end(self) -> int:
        """Offset just behind the last whole line, in bytes."""
        return self._end

    def append(self, event: Event) -> Event:
        """Write one event without its secrets, and remember it as the `last`.

        This is the one place where they are hidden before the journal, and so before all that is made of it.

        Returns:
            The event as it stands in the journal.

        Raises:
            JournalError: The disk is full or gone, and so much is held already that the event is lost.
                The file still ends with a whole line.
            EventFormatError: The event holds something that JSON cannot.
        """
        event = hidden(event)
        line = event_json.encode(event) + b"\n"
        if self._held or not self._is_written(line):
            self._hold(line)
        self.last = event
        return event

    def _is_written(self, line: bytes) -> bool:
        try:
            self._look_after()
            self._write(line)
            if self._is_always_synced:
                os.fsync(self._file.fileno())
        except (OSError, JournalError) as error:
            if not self._held:
                text = "journal %s cannot be written (%s): lines are held until it can; free the disk"
                _logger.error(text, self.path, error)  # noqa: TRY400  # a full disk is no fault of ours
            return False
        self._end += len(line)
        if self._syncer is not None:
            self._syncer.note(self._file)
        return True

    def _look_after(self) -> None:
        """See now and then whether somebody has removed the file."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_S:
            self._looked_at = now
            if os.fstat(self._file.fileno()).st_nlink == 0:
                self._put_back()

    def _hold(self, line: bytes) -> None:
        """Keep a line back, and write all that is held if there is room again."""
        if self._held_bytes + len(line) > _MOST_HELD_BYTES:
            reason = f"{_MOST_HELD_BYTES >> 20} MiB of lines wait for room on the disk; this event is lost"
            raise JournalError(self.path, reason, "free the disk or choose another output_dir")
        self._held.append(line)
        self._held_bytes += len(line)
        self._write_held()

    def _write_held(self) -> None:
        while self._held and self._is_written(self._held[0]):
            self._held_bytes -= len(self._held.popleft())

    def _put_back(self) -> None:
        """Somebody removed the file: write it anew, whole, from the one that is still open."""
        _logger.warning("journal %s was removed while in use; it is put back", self.path)
        removed, new = self._file, _open_locked(self.path)
        try:
            removed.seek(0)
            shutil.copyfileobj(removed, new)
        except OSError:
            with new:
                self.path.unlink(missing_ok=True)
            raise
        self._file = new
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
        """Flush to the disk and let other processes write.

        Raises:
            JournalError: Lines that were held while the disk was full are lost.
            OSError: The disk is gone.
        """
        if self._file.closed:
            return
        try:
            self._looked_at = 0.0
            self._look_after()
            self._write_held()
        finally:
            if self._syncer is not None:
                self._syncer.stop()
            with self._file as file:
                os.fsync(file.fileno())
        if self._held:
            reason = f"{len(self._held)} events are lost, for the disk is full"
            raise JournalError(self.path, reason, "free the disk or choose another output_dir")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Syncer:
    """Sees to it, on a thread of its own, that what was written gets to the disk in time.

    The thread is started with the first line: a journal that is only opened costs none.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._file: BinaryIO | None = None
        self._dirty = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, file: BinaryIO) -> None:
        """Say that a line was written."""
        self._file = file
        if not self._dirty.is_set():
            self._dirty.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rldk-fsync", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._dirty.wait() and not self._stopping.wait(self._interval_s):
            self._dirty.clear()
            try:
                os.fsync(self._file.fileno())  # type: ignore[union-attr]
            except (OSError, ValueError) as error:  # ValueError: it was removed, and put back as another
                _logger.warning("fsync of the journal failed: %s", error)


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


def is_being_written(path: Path) -> bool:
    """Whether a process has the journal open for writing."""
    if fcntl is not None:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def last_event(path: Path) -> Event | None:
    """Find the last event of a journal, searching from its end."""
    with path.open("rb") as file:
        lines = _lines_backwards(file)
        next(lines)  # what follows the last newline is no whole line
        events = (_entry(line, 0).event for line in lines if line)
        return next((event for event in events if event is not None), None)


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    """Read lines from the end on, each byte once; one that is longer than 64 MiB comes empty."""
    pos = file.seek(0, os.SEEK_END)
    pieces: list[bytes] = []  # of the line that is being gathered, its end first
    size = 0
    while pos > 0:
        start = max(pos - _TAIL_STEP, 0)
        file.seek(start)
        for number, part in enumerate(reversed(file.read(pos - start).split(b"\n"))):
            if number:  # a newline stands before what was gathered
                yield _joined(pieces, size)
                pieces, size = [], 0
            size += len(part)
            if size <= MAX_LINE_BYTES:
                pieces.append(part)
        pos = start
    yield _joined(pieces, size)


def _joined(pieces: list[bytes], size: int) -> bytes:
    return b"".join(reversed(pieces)) if size <= MAX_LINE_BYTES else b""


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


def _open_locked(path: Path) -> BinaryIO:
    try:
        files.make_folder(path.parent)
        file = files.append(path)
    except OSError as error:
        raise JournalError(path, str(error), "choose a writable output_dir") from error
    if not _is_locked_by_us(file):
        file.close()
        raise JournalLockedError(path)
    close_in_child(file)
    return file


def _is_locked_by_us(file: BinaryIO) -> bool:
    for _ in range(_LOCK_TRIES if fcntl is not None else 0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # held by a writer for long, by a reader's `is_being_written` hardly at all
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return fcntl is None


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
    if not (tail.startswith(LINE_BEGINS) or LINE_BEGINS.startswith(tail)):
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
