"""How far has a journal reached one tracker: a small file beside it, and who may move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from rldk import files, journal
from rldk.bridge import Receipt, Target
from rldk.errors import DeliveryLockedError
from rldk.fork import close_in_child

try:
    import fcntl
except ImportError:  # Windows has no flock; there two deliveries of one journal are not told apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a journal has reached one tracker run.

    Attributes:
        journal: Time of the journal's first event: another journal of the same name begins at another.
        tracker_run: The tracker's own id of the run; empty until one is open.
        source: Where that run is: the `source` of its `Home`.
        at: Time of the last event that was handed over. No two events of a journal have the same, and
            each is later than those before it.
        seq: Its number.
        offset: Where its line begins, in bytes; a hint, for the file may have been cut or replaced.
        base: Time of the last event that the tracker surely held when this delivery began.
        rejected: How many events up to there the tracker has refused for good.
        closed_at: What `at` was when the tracker run was last closed with all its files.
    """

    journal: float
    tracker_run: str = ""
    source: str = ""
    at: float = 0.0
    seq: int = -1
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    base: float = 0.0
    closed_at: float = 0.0
    rejected: int = 0

    @property
    def target(self) -> Target:
        """The tracker run that the journal goes into."""
        return Target(run_id=self.tracker_run or None, source=self.source or None)

    @property
    def receipt(self) -> Receipt:
        """What a sink is told of the earlier delivery."""
        return Receipt(source=self.source, at=self.at, base=self.base)


class CursorFile:
    """The cursor of one journal and tracker, kept by one process at a time.

    Attributes:
        path: The file.
    """

    def __init__(self, journal_path: Path, tracker: str) -> None:
        name = journal_path.name.removesuffix(journal.SUFFIX)
        self.path = journal_path.with_name(f"{name}_{tracker}.cursor")
        self._journal_path = journal_path
        self._lock: BinaryIO | None = None

    def load(self) -> Cursor | None:
        """Read the cursor; None where there is none, or where it is another journal's."""
        begins = beginning(self._journal_path)
        try:
            saved = msgspec.json.decode(self.path.read_bytes(), type=Cursor)
        except (OSError, msgspec.MsgspecError):
            return None
        return saved if saved.journal == begins else None

    def save(self, cursor: Cursor) -> None:
        """Replace the cursor in one move, so that a crash leaves the old one or the new one.

        Raises:
            OSError: The disk is full or gone.
        """
        with files.replacement(self.path) as new:
            new.write_bytes(msgspec.json.encode(cursor))

    def take(self) -> None:
        """Keep other processes from delivering this journal to this tracker.

        Raises:
            DeliveryLockedError: One is at it.
        """
        if fcntl is None or self._lock is not None:
            return
        file = files.append(self.path.with_suffix(".lock"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise DeliveryLockedError(self._journal_path) from error
        close_in_child(file)
        self._lock = file

    def release(self) -> None:
        """Let others deliver."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def beginning(path: Path) -> float:
    """Time of a journal's first event; 0 where it holds none."""
    return next((e.event.time for e in journal.read(path) if e.event is not None), 0.0)


def is_at(path: Path, cursor: Cursor) -> bool:
    """Whether the journal still has the cursor's event where the cursor says."""
    entry = next(journal.read(path, cursor.offset), None)
    return entry is not None and entry.event is not None and entry.event.time == cursor.at
