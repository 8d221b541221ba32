"""How far is each tracker behind the journal, by the cursor files beside it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rldk.cursor import Cursor
from rldk.journal import SUFFIX, is_being_written

if TYPE_CHECKING:
    from pathlib import Path

    from rldk.tail.state import State

_ENDING = ".cursor"


class Lag(NamedTuple):
    """What a tracker lacks.

    Attributes:
        tracker: Its name.
        run: Its own id of the run; empty where none is open yet.
        events: Events of the journal that it does not hold.
        seconds: By how much the newest event is younger than the newest that it holds; None where it
            holds none.
        rejected: Events that it has refused.
        is_closed: Whether it has everything, the files too.
        is_delivering: Whether a process is at it: the training, or `rldk sync`.
    """

    tracker: str
    run: str
    events: int
    seconds: float | None
    rejected: int
    is_closed: bool
    is_delivering: bool


def lags(path: Path, state: State) -> list[Lag]:
    """Tell what each tracker lacks that the run has told, or that has a cursor beside the journal."""
    stem = path.name.removesuffix(SUFFIX)
    names = {found.name[len(stem) + 1 : -len(_ENDING)] for found in _cursors(path, stem)} | set(state.homes)
    return [_lag(path.with_name(f"{stem}_{name}{_ENDING}"), name, state) for name in sorted(names)]


def _cursors(path: Path, stem: str) -> list[Path]:
    try:
        return [
            found
            for found in path.parent.iterdir()
            if found.name.startswith(f"{stem}_") and found.name.endswith(_ENDING)
        ]
    except OSError:
        return []


def _lag(file: Path, tracker: str, state: State) -> Lag:
    is_busy = _is_busy(file.with_suffix(".lock"))
    run = state.homes.get(tracker, "")
    nothing = Lag(tracker, run, state.last_seq + 1, None, 0, is_closed=False, is_delivering=is_busy)
    try:
        cursor = msgspec.json.decode(file.read_bytes(), type=Cursor)
    except (OSError, msgspec.MsgspecError):
        return nothing
    if cursor.journal != state.first or cursor.seq < 0:
        return nothing._replace(run=cursor.tracker_run or nothing.run)
    return Lag(
        tracker,
        cursor.tracker_run or nothing.run,
        max(state.last_seq - cursor.seq, 0),
        max(state.last - cursor.at, 0.0),
        cursor.rejected,
        is_closed=cursor.closed_at == cursor.at,
        is_delivering=is_busy,
    )


def _is_busy(lock: Path) -> bool:
    try:
        return is_being_written(lock)
    except OSError:  # nobody has ever delivered
        return False
