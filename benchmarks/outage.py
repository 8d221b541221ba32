"""What do memory and the training loop feel of a tracker that is down for a million events?"""

from __future__ import annotations

import multiprocessing
import time
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import mlflow
import psutil

from benchmarks import server, workload
from benchmarks.result import Goal, Result, Row, Table, quantile, ratios, spread
from rldk import bridge
from rldk.journal import SUFFIX, Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

_DOWN: Final = "the tracker is down"
_NONE: Final = "no tracker"


class _Block(NamedTuple):
    """What so many logs cost, in microseconds, and how much memory the process has now."""

    median: float
    p99: float
    most: float
    rss: float


class _Plan(NamedTuple):
    blocks: int
    events: int


def measure(*, quick: bool) -> Result:
    """Log at full speed in two fresh processes that take turns, one of them with a tracker that is down."""
    plan = _Plan(4, 500) if quick else _Plan(20, 50_000)
    with workload.workplace() as folder, _recording(folder, _DOWN) as down, _recording(folder, _NONE) as none:
        blocks: dict[str, list[_Block]] = {_DOWN: [], _NONE: []}
        for turn in range(plan.blocks):
            pair = [(_DOWN, down), (_NONE, none)]
            for name, child in pair if turn % 2 else reversed(pair):
                child.send(plan.events)
                blocks[name].append(child.recv())
    return Result(
        name="outage",
        question=__doc__ or "",
        tables=(_memory(plan, blocks), _latency(plan, blocks)),
        goals=_goals(plan, blocks),
        notes=_NOTES,
    )


@contextmanager
def _recording(folder: Path, name: str) -> Iterator[Connection]:
    """Start a process that logs as many events as it is told, again and again."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_record, args=(theirs, str(folder), name))
    child.start()
    theirs.close()  # so that we hear of it when the child dies
    try:
        yield ours
        ours.send(0)
        ours.recv()
    finally:
        ours.close()
        child.join()


def _record(pipe: Connection, folder: str, name: str) -> None:
    mlflow.set_tracking_uri(f"http://127.0.0.1:{server.unused_port()}")
    sinks = [bridge.sink("mlflow").create()] if name == _DOWN else []
    settings = Settings(close_deadline_s=1.0)
    journal = Journal(Path(folder, f"{name}{SUFFIX}"), fsync=settings.fsync)
    recorder = Recorder(journal, Run(run_id="outage", trainer="GRPO"), settings=settings)
    recorder.begin(0, sinks)
    step = 0
    while events := pipe.recv():
        pipe.send(_block(recorder, step, events))
        step += events
    _demand_outage(recorder, step, len(sinks))
    pipe.send(None)


def _block(recorder: Recorder, done: int, events: int) -> _Block:
    times = array("q", bytes(8 * events))
    for i in range(events):
        logs = workload.log(done + i)
        began = time.perf_counter_ns()
        recorder.log(done + i + 1, logs)
        times[i] = time.perf_counter_ns() - began
    median, p99, most = (quantile(times, share) / 1000 for share in (0.5, 0.99, 1.0))
    return _Block(median, p99, most, psutil.Process().memory_info().rss / 2**20)


def _demand_outage(recorder: Recorder, events: int, trackers: int) -> None:
    """Make sure that the tracker was down all the while, and that nothing was lost.

    Raises:
        RuntimeError: It was not so.
    """
    reports = recorder.end("FINISHED", events)
    is_down = all(report.failures and report.waiting >= events for report in reports)
    if len(reports) != trackers or not is_down:
        raise RuntimeError(f"the tracker was not down: {reports}")


def _memory(plan: _Plan, blocks: dict[str, list[_Block]]) -> Table:
    shown = sorted({0, *(plan.blocks * i // 4 - 1 for i in range(1, 5))})
    columns = tuple(f"MiB at {(i + 1) * plan.events:,}" for i in shown)
    rows = (Row(name, (*(block[i].rss for i in shown), _growth(block))) for name, block in blocks.items())
    return Table("Resident memory after so many events", (*columns, "growth MiB"), tuple(rows))


def _latency(plan: _Plan, blocks: dict[str, list[_Block]]) -> Table:
    rows = [
        Row(f"{name}, {what}", spread([getattr(b, field) for b in block]))
        for name, block in blocks.items()
        for what, field in (("median us", "median"), ("p99 us", "p99"), ("longest us", "most"))
    ]
    rows.append(Row("medians, down / none", spread(_median_ratios(blocks))))
    title = f"One log of {workload.USUAL} metrics, over {plan.blocks} blocks of {plan.events:,} logs"
    return Table(title, ("min", "median", "max"), tuple(rows))


def _goals(plan: _Plan, blocks: dict[str, list[_Block]]) -> tuple[Goal, ...]:
    most = plan.blocks * plan.events
    growth = f"memory growth while the tracker is down, from {plan.events:,} to {most:,} events, MiB"
    return (
        Goal(growth, "under", 20.0, _growth(blocks[_DOWN])),
        Goal("median log, tracker down / no tracker", "under", 1.1, spread(_median_ratios(blocks))[1]),
    )


def _growth(blocks: list[_Block]) -> float:
    return blocks[-1].rss - blocks[0].rss


def _median_ratios(blocks: dict[str, list[_Block]]) -> list[float]:
    return ratios([b.median for b in blocks[_DOWN]], [b.median for b in blocks[_NONE]])


_NOTES: Final = """\
- Two fresh processes, so that their memory tells of nothing else; they take turns, one block of logs
  each, so that what else goes on in the machine concerns both. Both have imported mlflow.
- Timed is `Recorder.log`, which `RLDKCallback.on_log` calls: the log is given its names and written to
  the journal (fsync every 5 s in the background). The logs follow one another without a pause.
- The tracker is an MLflow server's address on which nobody listens; the delivery tries again and again.
  At the end its report must say so, with every event waiting in the journal, or the benchmark fails."""
