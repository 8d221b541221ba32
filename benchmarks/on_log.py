"""How long does one log hold up training, beside transformers' own callbacks for the same trackers?"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from unittest.mock import patch

import mlflow
import msgspec
import wandb
from transformers import TrainerControl, TrainerState
from transformers.integrations import MLflowCallback, WandbCallback
from trl import GRPOConfig

from benchmarks import server, workload
from benchmarks.result import Goal, Result, Row, Table, quantile, ratios, spread
from rldk import journal
from rldk.cursor import CursorFile
from rldk.event import Event
from rldk.integrations.trl import RLDKCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PACE_MS: Final = 20
_SIZES: Final = (20, 200)
_TRACKERS: Final = ("mlflow", "wandb")
_SETTLE_S: Final = 60.0
_RLDK: Final = "RLDKCallback: journal, MLflow, W&B"
_PEERS: Final = "MLflowCallback + WandbCallback"
_FLOOR: Final = "floor: encode the event, write the line"


class _Plan(NamedTuple):
    rounds: int
    logs: int
    pause_s: float


class _Contender(NamedTuple):
    """One who takes logs: `prepare` is not timed, `log` is, `settle` comes after each block of logs."""

    name: str
    prepare: Callable[[dict[str, float]], Any]
    log: Callable[[Any], object]
    settle: Callable[[], object] = bool


Times = dict[tuple[str, int], list[list[float]]]
"""By contender and number of metrics: the microseconds of each log, a list for each round."""


class _Hooks:
    """Callbacks as a trainer calls them."""

    def __init__(self, args: GRPOConfig, *callbacks: Any) -> None:  # noqa: ANN401  # transformers is not typed
        self._callbacks = callbacks
        self._state = TrainerState(max_steps=10**9)
        self._given = (args, self._state, TrainerControl())
        for callback in callbacks:
            callback.on_train_begin(*self._given)

    def prepare(self, logs: dict[str, float]) -> dict[str, float]:
        """Go one step on; without it only the first log of a step would be recorded."""
        self._state.global_step += 1
        return logs

    def log(self, logs: dict[str, float]) -> None:
        """Hand the log to each of the callbacks."""
        for callback in self._callbacks:
            callback.on_log(*self._given, logs=logs)

    def end(self) -> None:
        """Tell the callbacks that training is over."""
        for callback in self._callbacks:
            callback.on_train_end(*self._given)


class _Floor:
    """The least that keeps a log: its JSON in one write to the operating system."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._encode = msgspec.json.Encoder().encode

    def prepare(self, logs: dict[str, float]) -> Event:
        """Make the event, with about as much around the metrics as RLDK's have."""
        info = {"run_id": "0123456789abcdef", "git_sha": "0" * 40, "phase": "train", "segment": 0}
        return Event(
            step=1,
            wall_time=1.234,
            metrics=logs,
            rng={"seed": 42},
            data_slice={"tokens_in": 4096},
            model_info=info,
            notes=[],
            time=1763847500.123,
        )

    def log(self, event: Event) -> None:
        """Encode and write."""
        self._file.write(self._encode(event) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def measure(*, quick: bool) -> Result:
    """Log at a realistic pace with each contender in turn, a block of logs each, and compare."""
    plan = _Plan(rounds=1, logs=5, pause_s=0.1) if quick else _Plan(rounds=8, logs=100, pause_s=0.5)
    with workload.workplace() as folder, server.serving(folder / "mlflow.db") as address:
        os.environ |= {"WANDB_DIR": str(folder), "WANDB_MODE": "offline"}
        mlflow.set_tracking_uri(address)
        times = _all_times(folder, plan)
    return Result(
        name="on_log",
        question=__doc__ or "",
        tables=tuple(table for size in _SIZES for table in _tables(size, times)),
        goals=tuple(goal for size in _SIZES for goal in _goals(size, times)),
        notes=_notes(plan),
    )


def _all_times(folder: Path, plan: _Plan) -> Times:
    args = GRPOConfig(output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to=[])
    callback = RLDKCallback(folder / "journal", trackers=_TRACKERS)
    with ExitStack() as ends:
        peers = _Hooks(args, MLflowCallback(), WandbCallback())
        ends.callback(wandb.finish)
        ends.callback(peers.end)
        ours = _alone(args, callback)
        ends.callback(ours.end)
        floor = ends.enter_context(_Floor(folder / "floor.jsonl"))
        contenders = (
            _Contender(_RLDK, ours.prepare, ours.log, lambda: _wait_for_deliveries(callback)),
            _Contender(_PEERS, peers.prepare, peers.log, mlflow.flush_async_logging),
            _Contender(_FLOOR, floor.prepare, floor.log),
        )
        times = _interleaved(contenders, plan)
    _demand_all(callback, logs=sum(len(block) for size in _SIZES for block in times[_RLDK, size]))
    return times


def _alone(args: GRPOConfig, callback: RLDKCallback) -> _Hooks:
    """Begin as if no tracker had an active run: RLDK shall open its own, not join the peers'."""
    with patch.object(wandb, "run", None), patch.object(mlflow, "active_run", lambda: None):
        return _Hooks(args, callback)


def _interleaved(contenders: tuple[_Contender, ...], plan: _Plan) -> Times:
    times: Times = {(each.name, size): [] for each in contenders for size in _SIZES}
    for round_ in range(-1, plan.rounds):  # the first round only warms up
        shift = round_ % len(contenders)
        for size in _SIZES:
            for each in contenders[shift:] + contenders[:shift]:
                block = _block(each, size, plan)
                if round_ >= 0:
                    times[each.name, size].append(block)
    return times


def _block(contender: _Contender, size: int, plan: _Plan) -> list[float]:
    keys = workload.names(size)
    times = [_timed(contender, workload.log(step, keys)) for step in range(plan.logs)]
    contender.settle()
    time.sleep(plan.pause_s)
    return times


def _timed(contender: _Contender, logs: dict[str, float]) -> float:
    time.sleep(_PACE_MS / 1000)
    prepared = contender.prepare(logs)
    began = time.perf_counter_ns()
    contender.log(prepared)
    return (time.perf_counter_ns() - began) / 1000


def _wait_for_deliveries(callback: RLDKCallback) -> None:
    """Wait until both trackers have what the journal has, or RLDK would be at it in the others' time."""
    end = time.monotonic() + _SETTLE_S
    while not all(_is_delivered(callback.journal_path, name) for name in _TRACKERS):
        if time.monotonic() > end:
            raise RuntimeError("RLDK's deliveries do not come to an end")
        time.sleep(0.1)


def _is_delivered(path: Path | None, tracker: str) -> bool:
    last = None if path is None else journal.last_event(path)
    cursor = None if path is None else CursorFile(path, tracker).load()
    return last is not None and cursor is not None and cursor.seq >= last.seq


def _demand_all(callback: RLDKCallback, *, logs: int) -> None:
    """Make sure that what was timed was also recorded, and arrived.

    Raises:
        RuntimeError: It was not.
    """
    lines = [] if callback.journal_path is None else journal.read(callback.journal_path)
    recorded = sum(line.event is not None and line.event.kind == "metrics" for line in lines)
    arrived = [report.is_closed and not report.waiting + report.rejected for report in callback.reports]
    if callback.errors or recorded < logs or arrived != [True] * len(_TRACKERS):
        raise RuntimeError(
            f"{recorded} of {logs} logs recorded, {callback.errors} errors, {callback.reports}"
        )


def _tables(size: int, times: Times) -> tuple[Table, Table]:
    names = (_RLDK, _PEERS, _FLOOR)
    logs = sum(map(len, times[_RLDK, size]))
    columns = ("min us", "median us", "p99 us", "max us")
    spent = Table(
        f"One log of {size} metrics, {logs} logs each",
        columns,
        tuple(Row(name, _spread(_pooled(times, name, size))) for name in names),
    )
    compared = Table(
        f"Ratios, {size} metrics, one for each of {len(times[_RLDK, size])} rounds",
        ("min", "median", "max"),
        (
            Row("medians, RLDK / peers", spread(_by_round(times, _PEERS, size, 0.5))),
            Row("p99s, RLDK / peers", spread(_by_round(times, _PEERS, size, 0.99))),
            Row("medians, RLDK / floor", spread(_by_round(times, _FLOOR, size, 0.5))),
        ),
    )
    return spent, compared


def _goals(size: int, times: Times) -> tuple[Goal, ...]:
    def ratio(peer: str, share: float) -> float:
        ours, theirs = (quantile(_pooled(times, name, size), share) for name in (_RLDK, peer))
        return ours / theirs

    return (
        Goal(f"median of {size} metrics, RLDK / peers", "under", 0.1, ratio(_PEERS, 0.5)),
        Goal(f"p99 of {size} metrics, RLDK / peers", "under", 0.1, ratio(_PEERS, 0.99)),
        Goal(f"median of {size} metrics, RLDK / floor", "under", 3.0, ratio(_FLOOR, 0.5)),
    )


def _pooled(times: Times, name: str, size: int) -> list[float]:
    return [each for block in times[name, size] for each in block]


def _spread(values: list[float]) -> tuple[float, ...]:
    return min(values), quantile(values, 0.5), quantile(values, 0.99), max(values)


def _by_round(times: Times, peer: str, size: int, share: float) -> list[float]:
    ours, theirs = ([quantile(block, share) for block in times[name, size]] for name in (_RLDK, peer))
    return ratios(ours, theirs)


def _notes(plan: _Plan) -> str:
    return f"""\
- One process and one `mlflow server` (SQLite, one worker) for all; RLDK and the peers each have an MLflow
  run and a W&B offline run of their own. Each callback has its defaults.
- {plan.rounds} rounds after one to warm up. In each, every contender logs {plan.logs} times, {_PACE_MS} ms
  apart, then its deliveries are awaited, untimed; the order changes from round to round.
- Timed is the call of `on_log` alone, of both callbacks together for the peers. MLflowCallback hands over
  to MLflow's own threads; the time that it costs there is not counted, nor RLDK's.
- The threads that deliver share the interpreter with the loop: its waiting for them is counted, and is
  what the slowest logs of all contenders are made of.
- The goals compare all logs of all rounds; the second table tells how the ratio varied.
- Why the goals are missed: the health rules judge each log before `on_log` returns, so that a note and
  `stop_on` come with the step that they are about, and the redactor looks at it. Before there were rules, the
  medians were 0.06 of the peers' time. After 20 ms of pause everything comes from cold caches, the floor too,
  so that the ratio to it tells how much code a log touches and not how long it computes.
- A log that meets a delivery thread in the middle of a request waits for the interpreter, up to 5 ms
  (`sys.getswitchinterval`), which is not ours to change; that is what the p99s are made of."""
