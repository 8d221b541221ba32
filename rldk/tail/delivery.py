"""How far is each tracker behind the journal, by the cursor files beside it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rldk.cursor import Cursor, CursorFile
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
    """Tell what each tracker lacks that the run has told, or that has a cursor of this journal beside it."""
    cursors = _cursors(path, state)
    names = sorted({*cursors, *state.homes})
    return [_lag(_file(path, name).with_suffix(".lock"), name, cursors.get(name), state) for name in names]


def _file(path: Path, tracker: str) -> Path:
    return CursorFile(path, tracker).path


def _cursors(path: Path, state: State) -> dict[str, Cursor]:
    """Read the cursors of this journal; `abc_2_mlflow.cursor` may be that of `abc_2` as well as of `abc`."""
    before = f"{path.name.removesuffix(SUFFIX)}_"
    try:
        files = [file.name for file in path.parent.iterdir() if file.name.startswith(before)]
    except OSError:
        return {}
    names = [name[len(before) : -len(_ENDING)] for name in files if name.endswith(_ENDING)]
    read = {name: _read(_file(path, name)) for name in names}
    return {name: cursor for name, cursor in read.items() if cursor and cursor.journal == state.first}


def _read(file: Path) -> Cursor | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cursor)
    except (OSError, msgspec.MsgspecError):
        return None


def _lag(lock: Path, tracker: str, cursor: Cursor | None, state: State) -> Lag:
    is_busy = _is_busy(lock)
    run = (cursor.tracker_run if cursor else "") or state.homes.get(tracker, "")
    if cursor is None or cursor.seq < 0:
        return Lag(tracker, run, state.last_seq + 1, None, 0, is_closed=False, is_delivering=is_busy)
    return Lag(
        tracker,
        run,
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
