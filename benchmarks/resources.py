"""How much of a core does resource monitoring take, beside MLflow's own monitor of the same machine?"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from benchmarks import workload
from benchmarks.result import Goal, Result, Row, Table, ratios, spread
from rldk.health.resources import INTERVAL_S, Sampler
from rldk.journal import SUFFIX, Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_RLDK: Final = "RLDK: a sample"
_RECORDED: Final = "RLDK: a sample, and its event in the journal"
_PEER: Final = "MLflow: a sample"
_PEER_INTERVAL_S: Final = 10.0
_GOAL_PERCENT: Final = 0.5


class _Plan(NamedTuple):
    rounds: int
    samples: int
    pause_s: float
    thread_s: float


class _Cost(NamedTuple):
    """What the sampler's own thread cost: seconds of the processor, of the clock, and its samples."""

    cpu: float
    wall: float
    samples: int


def measure(*, quick: bool) -> Result:
    """Take samples of both in turns, with pauses as between real ones, then let the real thread run."""
    plan = _Plan(1, 3, 0.01, 1.2) if quick else _Plan(8, 40, 0.1, 120.0)
    with workload.workplace() as folder:
        recorder = Recorder(
            Journal(folder / f"r{SUFFIX}"), Run(run_id="r", trainer="GRPO"), settings=Settings()
        )
        recorder.begin(0, [])
        times = _in_turns(_contenders(folder, recorder), plan)
        run = _run(folder, recorder, plan)
        recorder.end("FINISHED", 0)
    return Result(
        name="resources",
        question=__doc__ or "",
        tables=(_table(times, plan), _share_table(times, run)),
        goals=(Goal("share of one core at the default interval, %", "under", _GOAL_PERCENT, _share(run)),),
        notes=_notes(plan, run),
    )


def _contenders(folder: Path, recorder: Recorder) -> dict[str, Callable[[], object]]:
    sampler = Sampler(print, folder=folder)
    sampler.sample()
    monitors = (CPUMonitor(), DiskMonitor(), NetworkMonitor())

    def peer() -> None:
        for monitor in monitors:
            monitor.collect_metrics()
            monitor.aggregate_metrics()
            monitor.clear_metrics()

    return {
        _RLDK: sampler.sample,
        _RECORDED: lambda: recorder.emit("resource", 0, sampler.sample()),
        _PEER: peer,
    }


def _in_turns(contenders: dict[str, Callable[[], object]], plan: _Plan) -> dict[str, list[float]]:
    """Microseconds of the processor for a sample, by name, one for each round; the first only warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(-1, plan.rounds):
        spent = dict.fromkeys(contenders, 0.0)
        for _ in range(plan.samples):
            for name, act in contenders.items():
                time.sleep(plan.pause_s)
                began = time.thread_time()
                act()
                spent[name] += time.thread_time() - began
        if round_ >= 0:
            for name, seconds in spent.items():
                times[name].append(1e6 * seconds / plan.samples)
    return times


def _run(folder: Path, recorder: Recorder, plan: _Plan) -> _Cost:
    """Let the thread work as it does in a training, with nothing else in this process."""
    samples: list[object] = []

    def emit(sample: dict[str, int | float]) -> None:
        samples.append(recorder.emit("resource", 0, sample))

    gc.collect()
    cpu, wall = time.process_time(), time.monotonic()
    sampler = Sampler(emit, folder=folder)
    sampler.start()
    time.sleep(plan.thread_s)
    sampler.stop()
    return _Cost(time.process_time() - cpu, time.monotonic() - wall, len(samples))


def _table(times: dict[str, list[float]], plan: _Plan) -> Table:
    rows = [Row(name, spread(each)) for name, each in times.items()]
    ratio = Row("ratio, RLDK / MLflow, a sample", spread(ratios(times[_RLDK], times[_PEER])))
    title = f"CPU time of a sample in microseconds; {plan.rounds} rounds of {plan.samples} each"
    return Table(title, ("min", "median", "max"), (*rows, ratio))


def _share_table(times: dict[str, list[float]], run: _Cost) -> Table:
    ours = spread(times[_RECORDED])[1] / INTERVAL_S / 1e4
    peer = spread(times[_PEER])[1] / _PEER_INTERVAL_S / 1e4
    return Table(
        "Share of one core",
        ("interval s", "%"),
        (
            Row(
                f"RLDK: its thread for {run.wall:,.0f} s, all costs of {run.samples} samples",
                (INTERVAL_S, _share(run)),
            ),
            Row("RLDK, from the first table", (INTERVAL_S, ours)),
            Row("MLflow, from the first table, without its sending them", (_PEER_INTERVAL_S, peer)),
        ),
    )


def _share(run: _Cost) -> float:
    return 100 * run.cpu / run.wall


def _notes(plan: _Plan, run: _Cost) -> str:
    return f"""\
- One process, no GPU. The contenders take turns, {1000 * plan.pause_s:.0f} ms apart, so that each finds the
  caches as cold as after a pause; timed is the processor's time of the thread, not the clock's.
- RLDK measures {_metrics()} numbers here, MLflow's three monitors (processor, disk, network) 8. A sample of
  MLflow's has no counters of the disks, nothing of the process, and no limit of a control group; what it
  costs MLflow to send its samples is not counted.
- The run of {run.wall:,.0f} s counts all that the process spent, with the start of the thread and the
  search for a driver; pynvml, which torch imports as well, was there. Each sample is written to a journal.
- W&B's monitor works in a process of its own (wandb-core, written in Go), where the training's process pays
  nothing: it is left out as no fair peer.
- A GPU adds six calls of the driver's library to a sample; there was none here to time them."""


def _metrics() -> int:
    sampler = Sampler(print)
    sampler.sample()
    time.sleep(0.1)
    return len(sampler.sample())
