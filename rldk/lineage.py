"""Which journals did a run go on from, and has all of them arrived?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rldk import journal as journals
from rldk.cursor import CursorFile
from rldk.identity import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def before(journal: Path, continues: str | None) -> list[Path]:
    """Find the journals of the runs that a run continues, the oldest first, where they lie beside its own.

    Args:
        journal: The run's own journal.
        continues: The id of the run that it continues.
    """
    found: list[Path] = []
    while continues:
        path = journal.with_name(safe_name(continues) + journals.SUFFIX)
        if path == journal or path in found or not path.is_file():
            break
        found.append(path)
        first = next((entry.event for entry in journals.read(path) if entry.event is not None), None)
        continues = None if first is None else first.model_info.get("continues")
    return found[::-1]


def unsent(journal: Path, continues: str | None, trackers: Iterable[str]) -> Iterator[str]:
    """Say what trackers lack of the run that a run continues: it has ended, and nobody delivers the rest."""
    for path in before(journal, continues)[-1:]:
        last = journals.last_event(path)
        for tracker in trackers:
            cursor = CursorFile(path, tracker).load()
            if last is not None and cursor is not None and cursor.seq < last.seq:
                what = f"{tracker} lacks {last.seq - cursor.seq} events of run {continues}"
                yield f"{what}, which this one continues; deliver them with: rldk sync {path} --to {tracker}"
