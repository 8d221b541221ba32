"""How fast is a W&B run file read to the table, beside W&B's own reader and beside the least to be done?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

from benchmarks import reading, workload
from benchmarks.result import Goal, Result, Row, Table, ratios, spread
from rldk.ingest import ingest_runs
from rldk_wandb.adapter import WandbAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.reading import Cost

_OURS: Final = "ingest_runs, to the table"
_EVENTS: Final = "its share: the adapter's events"
_LEET: Final = "wandb leet inspect --json, to /dev/null"
_FLOOR: Final = "floor: every record checked and parsed by protobuf"

_WRITE: Final = """
import sys, wandb
from benchmarks import workload
with wandb.init(id="bench", mode="offline") as run:
    for step in range(1, int(sys.argv[1]) + 1):
        run.log({f"train/{name}": value for name, value in workload.log(step).items()})
"""


class _Plan(NamedTuple):
    rounds: int
    rows: int


def measure(*, quick: bool) -> Result:
    """Read one file in every way, in turns; then look at the memory, each in a process of its own."""
    plan = _Plan(1, 300) if quick else _Plan(3, 100_000)
    with workload.workplace() as folder:
        small, file = _written(folder / "small", 10), _written(folder / "large", plan.rows)
        times = _in_turns(file, plan.rounds)
        memory = {
            name: reading.once(read, str(file), str(small))
            for name, read in ((_OURS, to_table), ("the adapter's events, none of which is kept", to_events))
        }
        megabytes = file.stat().st_size / 1e6
    return Result(
        name="wandb_read",
        question=__doc__ or "",
        tables=(_times(times, megabytes), _ratios(times), _memory(memory)),
        goals=_goals(times, memory[_OURS]),
        notes=_notes(plan, megabytes),
    )


def _written(folder: Path, rows: int) -> Path:
    """A run that wandb itself has logged offline."""
    folder.mkdir()
    places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "HOME")
    subprocess.run(  # noqa: S603  # the program above
        [sys.executable, "-c", _WRITE, str(rows)],
        check=True,
        env=os.environ | dict.fromkeys(places, str(folder)),
    )
    return next(folder.glob("wandb/offline-run-*/*.wandb"))


def _in_turns(file: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds, by name, one for each round; the first round only warms up, but for the slowest."""
    works: dict[str, Callable[[], object]] = {
        _OURS: lambda: to_table(str(file)),
        _EVENTS: lambda: to_events(str(file)),
        _FLOOR: lambda: sum(1 for _ in _parsed(file)),
        _LEET: lambda: _leet(file),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(-1, rounds):
        for name, do in works.items():
            if round_ < 0 and name == _LEET:
                continue
            began = time.perf_counter()
            do()
            if round_ >= 0:
                times[name].append(time.perf_counter() - began)
    return times


def _leet(file: Path) -> None:
    wandb = Path(sys.executable).with_name("wandb")
    command = [wandb, "leet", "inspect", "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # wandb's own


_BLOCK: Final = 32768
_HEAD: Final = Struct("<IHB")
_FULL, _LAST = 1, 4


def _parsed(file: Path) -> Iterator[Record]:
    """The least that any reader in Python must do: each block, each checksum, each record."""
    with file.open("rb") as stream:
        pos, message = 7, b""
        while block := stream.read(_BLOCK):
            while len(block) - pos >= _HEAD.size:
                checksum, size, kind = _HEAD.unpack_from(block, pos)
                end = pos + _HEAD.size + size
                if zlib.crc32(block[pos + 6 : end]) != checksum:
                    raise ValueError(file)
                message += block[pos + 7 : end]
                pos = end
                if kind in {_FULL, _LAST}:
                    record = Record()
                    record.ParseFromString(message)
                    yield record
                    message = b""
            pos = 0


def to_table(source: str) -> object:
    """Read it as a user does."""
    return ingest_runs(source)


def to_events(source: str) -> int:
    """Read the adapter's share, and keep nothing."""
    return sum(1 for _ in WandbAdapter(source).events())


def _times(times: dict[str, list[float]], megabytes: float) -> Table:
    columns = ("min s", "median s", "max s", "MB/s")
    rows = (Row(name, (*spread(each), megabytes / spread(each)[1])) for name, each in times.items())
    return Table("Reading the file", columns, tuple(rows))


def _ratios(times: dict[str, list[float]]) -> Table:
    pairs = {
        "leet / ingest_runs": ratios(times[_LEET], times[_OURS]),
        "ingest_runs / floor": ratios(times[_OURS], times[_FLOOR]),
        "the adapter's events / floor": ratios(times[_EVENTS], times[_FLOOR]),
    }
    rows = (Row(name, spread(each)) for name, each in pairs.items())
    return Table("Side by side, round by round", ("min", "median", "max"), tuple(rows))


def _memory(memory: dict[str, Cost]) -> Table:
    table = memory[_OURS].table
    rows = (Row(name, (m.grown / 1e6, table / 1e6, m.grown / table)) for name, m in memory.items())
    return Table("By how much the process grows at most", ("MB", "table, MB", "times the table"), tuple(rows))


def _goals(times: dict[str, list[float]], memory: Cost) -> tuple[Goal, ...]:
    leet = spread(ratios(times[_LEET], times[_OURS]))[1]
    floor = spread(ratios(times[_OURS], times[_FLOOR]))[1]
    growth = memory.grown / memory.table
    return (
        Goal("a .wandb file to the table: times as fast as wandb leet inspect --json", "over", 6, leet),
        Goal("a .wandb file to the table: times the time of parsing its records", "under", 3, floor),
        Goal("a .wandb file to the table: growth of the process, times the table", "under", 4, growth),
    )


def _notes(plan: _Plan, megabytes: float) -> str:
    return f"""\
- {plan.rows:,} rows of {workload.USUAL} floats, logged offline by wandb: {megabytes:,.0f} MB, in the
  system's cache. {plan.rounds} rounds, after one to warm up. leet is a program of its own, the rest
  one process.
- The floor is a plain loop that gives protobuf's own objects, and keeps none; nothing is taken out of them.
- Growth is that of the peak of resident memory, each in a fresh process that has read a small file before
  (VmHWM, which only Linux tells)."""
