"""How does a run of any source become a journal that can be delivered?"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import platformdirs

from rldk import files, journal
from rldk.identity import safe_name
from rldk.journal import SUFFIX, Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.bridge import Adapter
    from rldk.event import Event


class Staged(NamedTuple):
    """A run that is ready for delivery: its journal, and what the tracker is to know besides."""

    path: Path
    run: Event
    last: Event
    tracker_runs: dict[str, str]
    is_copy: bool
    problems: tuple[str, ...] = ()


def stage(
    adapter: Adapter,
    source: str,
    *,
    takes: Callable[[Event], bool] = lambda _: True,
    anew: bool = False,
) -> list[Staged]:
    """Have each run of one source in a journal: RLDK's own where it is, any other as a copy.

    Args:
        adapter: Who reads the source.
        source: Of one run or several.
        takes: Whether the run that begins with an event is wanted; the others are left out.
        anew: Copy each of them again as it is now, whatever an earlier call copied.
    """
    path = Path(source)
    if path.is_file() and _is_deliverable(path):
        own = _described(path.resolve(), is_copy=False)._replace(problems=_unreadable(path))
        return [own] if takes(own.run) else []
    named = str(path.resolve()) if path.exists() else source
    mark = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    folder = platformdirs.user_cache_path("rldk") / "sync" / mark
    files.make_private(folder)
    copies = _copied(adapter, folder, takes, anew=anew)
    problems = [*adapter.problems, *(copy.late() for copy in copies if copy.late())]
    return [_described(c.journal.path, is_copy=True)._replace(problems=tuple(problems)) for c in copies]


def _unreadable(path: Path) -> tuple[str, ...]:
    bad = [entry.reason for entry in journal.read(path) if entry.event is None]
    return (f"{path}: {len(bad)} lines hold no event and were not sent ({bad[0]})",) if bad else ()


def _is_deliverable(path: Path) -> bool:
    """Whether a file is a journal of one run as RLDK writes it, so that it can be its own queue."""
    last = 0.0
    run_ids: set[str] = set()
    for entry in journal.read(path):
        if entry.event is None:
            continue
        if entry.event.time <= last or (not run_ids and entry.event.kind != "run"):
            return False
        last = entry.event.time
        run_ids.add(entry.event.run_id)
    return len(run_ids) == 1


def _described(path: Path, *, is_copy: bool) -> Staged:
    events = [e.event for e in journal.read(path) if e.event is not None and e.event.kind == "run"]
    last = journal.last_event(path)
    told: dict[str, str] = {}
    for event in events:
        told |= event.model_info.get("tracker_runs") or {}
    return Staged(path, events[0], last or events[0], told, is_copy)


def _copied(adapter: Adapter, folder: Path, takes: Callable[[Event], bool], *, anew: bool) -> list[_Copy]:
    """Write each run into a journal of its own; what an earlier call wrote is kept and gone on with.

    The same source gives the same events with the same times, so that a cursor of an earlier call holds.
    """
    copies: dict[str, _Copy | None] = {}
    try:
        for event in adapter.events():
            if event.run_id not in copies:
                path = folder / f"{safe_name(event.run_id)}{SUFFIX}"
                copies[event.run_id] = _Copy(path, anew=anew) if takes(event) else None
            if (copy := copies[event.run_id]) is not None:
                copy.add(event)
    finally:
        made = [copy for copy in copies.values() if copy is not None]
        for copy in made:
            copy.journal.close()
    return made


class _Copy:
    """The journal into which one run is copied."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        if anew:
            path.unlink(missing_ok=True)
        self.journal = Journal(path)
        last = self.journal.last
        self._staged_until = -math.inf if last is None else last.time
        self._staged = 0 if last is None else last.seq + 1
        self._passed = 0
        self._time = 0.0
        self._began = math.inf
        self._seq = 0

    def add(self, event: Event) -> None:
        """Append an event unless it is there; each gets a time later than the one before, and a number."""
        if self._seq == 0 and event.kind != "run":
            self._append(_beginning(event))
        self._append(event)

    def _append(self, event: Event) -> None:
        self._time = max(round(event.time, 3), round(self._time + 0.001, 3))
        self._began = min(self._began, self._time)
        if self._time > self._staged_until:
            told = {"time": self._time, "seq": self._seq, "model_info": event.model_info}
            if not math.isfinite(event.wall_time):  # a log that tells no times; strict JSON has no NaN for it
                told["wall_time"] = round(self._time - self._began, 3)
            self.journal.append(msgspec.structs.replace(event, **told))
        else:
            self._passed += 1
        self._seq += 1

    def late(self) -> str:
        """Say that the source has gained events before the last one that an earlier call sent."""
        count = self._passed - self._staged
        name = self.journal.path.name
        return (
            f"{name}: {count} events have come between those sent before; give --again" if count > 0 else ""
        )


def _beginning(first: Event) -> Event:
    """The event that begins a run whose source has none."""
    return msgspec.structs.replace(
        first,
        kind="run",
        time=round(first.time - 0.001, 3),
        metrics={},
        data_slice={},
        notes=[],
        model_info={k: v for k, v in first.model_info.items() if k != "phase"},
    )
