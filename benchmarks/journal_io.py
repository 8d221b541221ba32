"""How fast is the journal written and read, beside the least that any program must do?"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from benchmarks import workload
from benchmarks.result import Result, Row, Table, spread
from rldk import journal
from rldk.event import Event
from rldk.ingest import ingest_runs
from rldk.journal import SUFFIX, Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.settings import Fsync

_WRITE_FLOOR: Final = "floor: file.write, unbuffered"
_READ_FLOOR: Final = "floor: msgspec.json.decode of each line"


class _Plan(NamedTuple):
    rounds: int
    events: int
    synced: int


class _Work(NamedTuple):
    """Something to time: what it is called, how many events it handles, and the doing."""

    name: str
    events: int
    do: Callable[[], object]


def measure(*, quick: bool) -> Result:
    """Write and read the same events in every way, in turns."""
    plan = _Plan(2, 200, 20) if quick else _Plan(5, 20_000, 500)
    with workload.workplace() as folder:
        path = workload.write_journal(folder / f"run{SUFFIX}", plan.events)
        lines = path.read_bytes().splitlines(keepends=True)
        writes = _in_turns(_writes(folder, path, lines, plan), plan.rounds)
        reads = _in_turns(_reads(path, lines), plan.rounds)
    line_bytes = sum(map(len, lines)) / len(lines)
    return Result(
        name="journal_io",
        question=__doc__ or "",
        tables=(
            _table("Writing events of 20 metrics", writes, _WRITE_FLOOR, line_bytes),
            _table("Reading them", reads, _READ_FLOOR, line_bytes),
        ),
        notes=_notes(plan, line_bytes),
    )


def _writes(folder: Path, path: Path, lines: list[bytes], plan: _Plan) -> list[_Work]:
    events = [entry.event for entry in journal.read(path) if entry.event is not None]
    modes: tuple[Fsync, ...] = ("never", "interval", "always")
    appends = [
        _append(folder, fsync, events[: plan.synced if fsync == "always" else None]) for fsync in modes
    ]
    return [
        *appends,
        _plain(folder, _WRITE_FLOOR, lines, buffering=0),
        _plain(folder, "floor: file.write, buffered", lines, buffering=-1),
    ]


def _append(folder: Path, fsync: Fsync, events: list[Event]) -> _Work:
    target = folder / f"{fsync}{SUFFIX}"

    def do() -> None:
        target.unlink(missing_ok=True)
        log = Journal(target, fsync=fsync)
        for event in events:
            log.append(event)
        log.close()

    return _Work(f"Journal.append, fsync {fsync}", len(events), do)


def _plain(folder: Path, name: str, lines: list[bytes], *, buffering: int) -> _Work:
    target = folder / "plain.jsonl"

    def do() -> None:
        with target.open("wb", buffering=buffering) as file:
            for line in lines:
                file.write(line)

    return _Work(name, len(lines), do)


def _reads(path: Path, lines: list[bytes]) -> list[_Work]:
    decoder = msgspec.json.Decoder(Event)
    return [
        _Work("journal.read", len(lines), lambda: sum(1 for _ in journal.read(path))),
        _Work("ingest_runs, to the table", len(lines), lambda: ingest_runs(path)),
        _Work(_READ_FLOOR, len(lines), lambda: [msgspec.json.decode(line) for line in lines]),
        _Work("the same, into Event", len(lines), lambda: [decoder.decode(line) for line in lines]),
        _Work("json.loads of each line", len(lines), lambda: [json.loads(line) for line in lines]),
    ]


def _in_turns(works: list[_Work], rounds: int) -> dict[str, list[float]]:
    """Microseconds an event, by name, one for each round; the first round only warms up."""
    times: dict[str, list[float]] = {work.name: [] for work in works}
    for round_ in range(-1, rounds):
        for work in works:
            began = time.perf_counter()
            work.do()
            if round_ >= 0:
                times[work.name].append(1e6 * (time.perf_counter() - began) / work.events)
    return times


def _table(title: str, times: dict[str, list[float]], floor: str, line_bytes: float) -> Table:
    least = spread(times[floor])[1]
    columns = ("min us", "median us", "max us", "events/s", "MB/s", "times the floor")
    rows = (
        Row(name, (*spread(each), 1e6 / middle, line_bytes / middle, middle / least))
        for name, each in times.items()
        if (middle := spread(each)[1])
    )
    return Table(title, columns, tuple(rows))


def _notes(plan: _Plan, line_bytes: float) -> str:
    return f"""\
- One process; {plan.rounds} rounds after one to warm up, in each of which every way handles
  {plan.events:,} events, {plan.synced:,} with fsync always. A line has {line_bytes:,.0f} bytes.
- Writing: Journal encodes each event and writes its line at once; opening, and closing with its one
  fsync, is included. The floors write lines that were encoded before, and never fsync.
- Reading: the files are in the system's cache. The floors decode lines that are in memory already."""
