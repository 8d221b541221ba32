"""What happened in a run, event by event, wherever it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rldk.canonical import Renamer
from rldk.errors import SourceError
from rldk.event import Event, utf8
from rldk.reading import called_alike, free_name
from rldk.sources import is_wanted, listed, none_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from rldk.sources import RunSource


class History:
    """The events of one run, under canonical names, in the order in which they were written.

    Attributes:
        run_id: The run.
        trainer: Short name of its trainer, as it tells or as its metrics show; empty where nothing does.
        source: Where it was read.
        is_raw: Whether others than RLDK recorded it.
        problems: What of the source could not be read, a sentence each.
    """

    def __init__(self, run_id: str, source: str, field_map: Mapping[str, str]) -> None:
        self.run_id = run_id
        self.trainer = ""
        self.source = source
        self.is_raw = True
        self.problems: list[str] = []
        self._events: list[Event] = []
        self._theirs: list[Event] = []
        self._renamer = Renamer(field_map)

    def events(self) -> Iterator[Event]:
        """Give the events: of kind run first, where training began, then what was logged, and the end."""
        yield from self._events

    def add(self, event: Event) -> None:
        """Take over an event as an adapter gives it."""
        if not event.is_raw:
            self.is_raw = self.is_raw and event.kind != "metrics"
            self.trainer = str(event.model_info.get("trainer") or self.trainer)
            self._events.append(event)
        elif event.kind == "end":
            self._events.append(event)
        elif self.is_raw:
            self._theirs.extend(self._renamer.take(event))

    def close(self, problems: Iterable[str]) -> None:
        """Put what others have logged in the place of what RLDK did not."""
        self.problems = list(problems)
        if self.is_raw:
            self._theirs.extend(self._renamer.rest())
            self.trainer = self.trainer or self._renamer.trainer
            ends = [event for event in self._events if event.kind == "end"]
            rest = [event for event in self._events if event.kind != "end"]
            self._events = [*self._begun([*rest, *self._theirs]), *ends]
        self._theirs = []

    def _begun(self, events: list[Event]) -> Iterator[Event]:
        """Have the events begin with one that tells the trainer."""
        told = {"trainer": self.trainer} if self.trainer else {}
        if not any(event.kind == "run" for event in events):
            first = events[0] if events else None
            yield Event(
                kind="run",
                time=first.time if first else 0.0,
                step=0,
                wall_time=0.0,
                metrics={},
                rng={},
                data_slice={},
                model_info={"run_id": self.run_id, **told},
                notes=[],
            )
        for event in events:
            info: dict[str, Any] = {**told, **event.model_info, "run_id": self.run_id}
            yield msgspec.structs.replace(event, model_info=info) if event.kind == "run" else event


def histories(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = None,
    field_map: Mapping[str, str] | None = None,
    runs: Iterable[str] | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> Iterator[History]:
    """Read runs one after the other, whole, each as its events.

    Args:
        source: As `rldk.ingest.ingest_runs` takes it.
        adapter_hint: Name of the adapter to use.
        field_map: Raw name to canonical name, for what the catalog does not know.
        runs: Ids of the runs that are wanted, in which `*` and `?` stand for any text; all by default.
        watch: Called before each source of a run is read, with the source, its number from 0, and how many
            there are.

    Raises:
        UnknownSourceError: No adapter recognises a source.
        SourceError: A source cannot be read.
        SettingError: None of the runs is one that was asked for.
    """
    found = listed(source, adapter_hint)
    wanted = None if runs is None else list(runs)
    is_any = False
    taken: set[str] = set()
    for number, each in enumerate(found.runs):
        watch(each.source, number, len(found.runs))
        for history in _read(each, field_map or {}):
            if not is_wanted(history.run_id, wanted):
                taken.add(history.run_id)
                continue
            is_any = True
            name = free_name(history.run_id, taken)
            if name != history.run_id:
                history.problems.append(called_alike(history.run_id, name))
                history.run_id = name
            taken.add(name)
            yield history
    if wanted is not None and taken and not is_any:
        raise none_wanted(wanted, taken)
    if not taken:
        raise SourceError(
            str(source), "; ".join(found.problems) or "it holds no run", "check that it is a run"
        )


def _read(source: RunSource, field_map: Mapping[str, str]) -> list[History]:
    adapter = source.open()
    read: dict[str, History] = {}
    for event in adapter.events():
        run_id = event.run_id
        if run_id not in read:
            read[run_id] = History(utf8(run_id), source.source, field_map)
        read[run_id].add(event)
    for history in read.values():
        history.close(adapter.problems)
    return list(read.values())
