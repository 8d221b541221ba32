"""How long until a run's steps are durable on a real MLflow server, beside MLflow's own two ways?"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import mlflow

from benchmarks import server, workload
from benchmarks.result import Goal, Result, Row, Table, spread
from rldk import bridge, journal
from rldk.delivery import Delivery
from rldk.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from rldk.delivery import DeliveryReport

_RLDK: Final = "RLDK, from the journal"
_SYNC: Final = "mlflow.log_metrics"
_ASYNC: Final = "mlflow.log_metrics, asynchronous"
_GLANCE_S: Final = 0.05


class _Plan(NamedTuple):
    rounds: int
    peer_steps: int
    our_steps: int
    many_steps: int


class _Timing(NamedTuple):
    """A run of so many steps: how long until the last was durable, and when how many were."""

    steps: int
    seconds: float
    progress: tuple[tuple[float, int], ...] = ()

    @property
    def per_1000(self) -> float:
        """Seconds for 1,000 steps."""
        return 1000 * self.seconds / self.steps


Times = dict[str, list[_Timing]]


def measure(*, quick: bool) -> Result:
    """Time short runs of all three ways, one long run of RLDK's, then short ones again."""
    plan = _Plan(1, 20, 40, 200) if quick else _Plan(2, 500, 2000, 100_000)
    with workload.workplace() as folder, server.serving(folder / "mlflow.db") as address:
        mlflow.set_tracking_uri(address)
        before = _short_runs(folder, plan, "before")
        many = _deliver(folder, "many", plan.many_steps)
        after = _short_runs(folder, plan, "after")
    return Result(
        name="durable",
        question=__doc__ or "",
        tables=(_short_table(plan, before, after), _many_table(many, before, after)),
        goals=_goals(many, before, after),
        notes=_notes(plan),
    )


def _short_runs(folder: Path, plan: _Plan, when: str) -> Times:
    times: Times = {_RLDK: [], _SYNC: [], _ASYNC: []}
    for i in range(plan.rounds):
        times[_RLDK].append(_deliver(folder, f"{when}-{i}", plan.our_steps))
        times[_SYNC].append(_log(folder, plan.peer_steps, synchronous=True))
        times[_ASYNC].append(_log(folder, plan.peer_steps, synchronous=False))
    return times


def _log(folder: Path, steps: int, *, synchronous: bool) -> _Timing:
    began = time.perf_counter()
    run = mlflow.start_run()
    for step in range(1, steps + 1):
        mlflow.log_metrics(workload.log(step), step=step, synchronous=synchronous)
    if not synchronous:
        mlflow.flush_async_logging()
    mlflow.end_run()
    seconds = time.perf_counter() - began
    _demand_all(folder, run.info.run_id, steps)
    return _Timing(steps, seconds)


def _deliver(folder: Path, name: str, steps: int) -> _Timing:
    path = workload.write_journal(folder / f"{name}{journal.SUFFIX}", steps)
    first, last = next(journal.read(path)).event, journal.last_event(path)
    if first is None or last is None:
        raise RuntimeError(f"{path} is empty")
    delivery = Delivery(path, bridge.sink("mlflow").create(), run=first, start=0, settings=Settings())
    delivery.wake(last.seq)
    timing = _timed(delivery, steps)
    _demand_all(folder, _closed_run(delivery.report()), steps)
    return timing


def _timed(delivery: Delivery, steps: int) -> _Timing:
    progress: list[tuple[float, int]] = []
    began = time.perf_counter()
    delivery.start()
    delivery.finish("FINISHED", [])
    while delivery.is_running():
        delivery.join(_GLANCE_S)
        progress.append((time.perf_counter() - began, delivery.report().delivered))
    return _Timing(steps, time.perf_counter() - began, tuple(progress))


def _closed_run(report: DeliveryReport) -> str:
    if report.home is None or not report.is_closed or report.waiting or report.rejected:
        raise RuntimeError(f"the delivery is incomplete: {report}")
    return report.home.run_id


def _demand_all(folder: Path, run_id: str, steps: int) -> None:
    found, expected = server.points(folder / "mlflow.db", run_id), steps * workload.USUAL
    if found != expected:
        raise RuntimeError(f"{found} of {expected} points are in the server's database")


def _rate(timing: _Timing, begin: float, end: float) -> float:
    """Seconds for 1,000 steps within a part of the run, from one share of its steps to another."""
    t0, n0 = next(p for p in timing.progress if p[1] >= begin * timing.steps)
    t1, n1 = next(p for p in timing.progress if p[1] >= end * timing.steps)
    return 1000 * (t1 - t0) / max(n1 - n0, 1)


def _short_table(plan: _Plan, before: Times, after: Times) -> Table:
    rows = [
        Row(f"{name}, {when}", (times[name][0].steps, len(times[name]), *_spread(times[name])))
        for when, times in (("before the long run", before), ("after it", after))
        for name in times
    ]
    title = f"Seconds for 1,000 steps of {workload.USUAL} metrics; the long run had {plan.many_steps:,} steps"
    return Table(title, ("steps a run", "runs", "min s", "median s", "max s"), tuple(rows))


def _many_table(many: _Timing, before: Times, after: Times) -> Table:
    early = min(before[_RLDK][0].steps / many.steps, 0.5)
    ours = Row(
        _RLDK,
        (many.seconds, many.per_1000, _rate(many, 0, early), _rate(many, 0.9, 1), 1.0),
    )
    peers = (_extrapolated(name, many, _middle(before[name] + after[name])) for name in (_SYNC, _ASYNC))
    first = f"s per 1,000, first {early * many.steps:,.0f}"
    return Table(
        f"{many.steps:,} steps of {workload.USUAL} metrics; the peers' time is extrapolated",
        ("total s", "s per 1,000", first, "s per 1,000, last tenth", "times RLDK's"),
        (ours, *peers),
    )


def _extrapolated(name: str, many: _Timing, per_1000: float) -> Row:
    total = per_1000 * many.steps / 1000
    return Row(name, (total, per_1000, None, None, total / many.seconds))


def _goals(many: _Timing, before: Times, after: Times) -> tuple[Goal, ...]:
    best = min(_middle(before[name] + after[name]) for name in (_SYNC, _ASYNC))
    text = f"time to durable, the better of MLflow's two ways / RLDK's {many.steps:,} steps"
    return (Goal(text, "over", 5.0, best / many.per_1000),)


def _middle(timings: list[_Timing]) -> float:
    return statistics.median(timing.per_1000 for timing in timings)


def _spread(timings: list[_Timing]) -> tuple[float, float, float]:
    return spread([timing.per_1000 for timing in timings])


def _notes(plan: _Plan) -> str:
    return f"""\
- One process and one `mlflow server` (SQLite, one worker) for all; the short runs take turns. Each time
  includes opening and ending the MLflow run.
- RLDK's journal is written before, untimed; the delivery has its default settings and ends when the last
  event is accepted. MLflow's asynchronous loop ends when `flush_async_logging` returns.
- MLflow's own ways get {plan.peer_steps:,} steps a run, for they are slow: their {plan.many_steps:,}
  steps are extrapolated.
- RLDK sends one point a step more than it is given: how many of the values are not finite.
- After each run the rows of the server's database are counted: all points are there, or the benchmark
  fails."""
