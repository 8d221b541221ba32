"""How much longer does a training take with RLDK, beside transformers' own callbacks?"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import mlflow
import torch
import wandb
from datasets import Dataset
from transformers import PrinterCallback
from transformers.integrations import MLflowCallback, WandbCallback
from transformers.utils.logging import disable_progress_bar
from trl import GRPOConfig, GRPOTrainer

from benchmarks import workload
from benchmarks.result import Goal, Result, Row, Table, ratios, spread
from rldk.demo import WORDS, build_tiny_model
from rldk.integrations.trl import RLDKCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HOOKS: Final = (
    *("on_init_end", "on_train_begin", "on_epoch_begin", "on_step_begin", "on_pre_optimizer_step"),
    *("on_optimizer_step", "on_substep_end", "on_step_end", "on_log", "on_evaluate", "on_save"),
    *("on_epoch_end", "on_train_end"),
)
_ENDS: Final = ("on_train_begin", "on_train_end")
_WITH: Final = "with RLDK: journal, MLflow, W&B"
_PEERS: Final = "with MLflowCallback + WandbCallback"
_WITHOUT: Final = "without any"


class _Plan(NamedTuple):
    rounds: int
    steps: int


class _Training(NamedTuple):
    """One training: its seconds, those of the process's CPU, and those inside each of our hooks."""

    wall: float
    cpu: float
    hooks: dict[str, float]

    @property
    def in_loop(self) -> float:
        """Share of the time that the hooks which are called again and again took."""
        return sum(s for hook, s in self.hooks.items() if hook not in _ENDS) / self.wall


Trainings = dict[str, list[_Training]]


def measure(*, quick: bool) -> Result:
    """Train the same tiny model with and without RLDK, in turns."""
    plan = _Plan(1, 3) if quick else _Plan(6, 100)
    disable_progress_bar()
    done: Trainings = {name: [] for name in _TRAIN}
    torch.set_num_threads(1)
    with workload.workplace() as folder:
        model = build_tiny_model(folder / "model")
        _use_mlflow(folder)
        for round_ in range(-1, plan.rounds):  # the first round only warms up
            for i, name in enumerate(_TRAIN if round_ % 2 else reversed(_TRAIN)):
                trained = _TRAIN[name](folder / f"{round_}-{i}", model, plan.steps if round_ >= 0 else 3)
                done[name] += [trained] if round_ >= 0 else []
    return Result(
        name="training",
        question=__doc__ or "",
        tables=_tables(plan, done),
        goals=(_goal(done),),
        notes=_notes(plan),
    )


def _use_mlflow(folder: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("benchmark", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("benchmark")


def _with(folder: Path, model: tuple[str, Any], steps: int) -> _Training:
    callback = RLDKCallback(folder / "journal")
    spent = _time_hooks(callback)
    with _tracked(folder):
        trained = _train(folder, model, steps, [callback])._replace(hooks=spent)
    if callback.errors or len(callback.reports) != 2 or any(r.waiting for r in callback.reports):  # noqa: PLR2004
        raise RuntimeError(f"not all was recorded: {callback.errors} errors, {callback.reports}")
    return trained


def _without(folder: Path, model: tuple[str, Any], steps: int) -> _Training:
    return _train(folder, model, steps, [])


def _with_peers(folder: Path, model: tuple[str, Any], steps: int) -> _Training:
    with _tracked(folder):
        return _train(folder, model, steps, [MLflowCallback(), WandbCallback()])


_TRAIN: Final = {_WITH: _with, _PEERS: _with_peers, _WITHOUT: _without}


@contextmanager
def _tracked(folder: Path) -> Iterator[None]:
    """Open a run in each tracker, as a script does before it trains."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        mlflow.start_run(),
        wandb.init(dir=str(folder), mode="offline", settings=wandb.Settings(silent=True)),
    ):
        yield


def _time_hooks(callback: RLDKCallback) -> dict[str, float]:
    """Put a clock around each hook; give the seconds inside each, which grow as it is called."""
    spent = dict.fromkeys(_HOOKS, 0.0)
    for hook in _HOOKS:
        setattr(callback, hook, _clocked(getattr(callback, hook), hook, spent))
    return spent


def _clocked(call: Callable[..., Any], hook: str, spent: dict[str, float]) -> Callable[..., Any]:
    def clocked(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[hook] += time.perf_counter() - began

    return clocked


def _train(folder: Path, model: tuple[str, Any], steps: int, callbacks: list[Any]) -> _Training:
    path, tokenizer = model
    trainer = GRPOTrainer(
        model=path,
        reward_funcs=_length,
        args=_config(folder, steps),
        train_dataset=Dataset.from_dict({"prompt": [f"{a} {b}" for a in WORDS for b in WORDS]}),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    cpu, wall = time.process_time(), time.perf_counter()
    trainer.train()
    return _Training(time.perf_counter() - wall, time.process_time() - cpu, {})


def _length(completions: list[str], **_: object) -> list[float]:
    return [float(len(text)) for text in completions]


def _config(folder: Path, steps: int) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(folder / "trainer"),
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=16,
        learning_rate=1e-3,
        beta=0.01,
        seed=42,
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )


def _tables(plan: _Plan, done: Trainings) -> tuple[Table, Table]:
    ours = done[_WITH]
    whole = Table(
        f"A training of {plan.steps} steps, each of them logged; {plan.rounds} rounds",
        ("min", "median", "max"),
        (
            *(Row(f"wall s, {name}", spread([t.wall for t in each])) for name, each in done.items()),
            *(Row(f"wall, {name} / {_WITHOUT}", _compared(done, name, "wall")) for name in (_WITH, _PEERS)),
            *(
                Row(f"CPU time, {name} / {_WITHOUT}", _compared(done, name, "cpu"))
                for name in (_WITH, _PEERS)
            ),
        ),
    )
    hooks = Table(
        "What RLDK's hooks took of it",
        ("min", "median", "max"),
        (
            Row("on_log, us a step", spread([1e6 * t.hooks["on_log"] / plan.steps for t in ours])),
            Row("all hooks of the loop, % of wall time", spread([100 * t.in_loop for t in ours])),
            *(Row(f"{hook}, ms, once", spread([1000 * t.hooks[hook] for t in ours])) for hook in _ENDS),
        ),
    )
    return whole, hooks


def _compared(done: Trainings, name: str, field: str) -> tuple[float, float, float]:
    above, below = ([getattr(t, field) for t in done[each]] for each in (name, _WITHOUT))
    return spread(ratios(above, below))


def _goal(done: Trainings) -> Goal:
    share = spread([100 * t.in_loop for t in done[_WITH]])[1]
    return Goal("hooks of the training loop, % of the wall time (median)", "under", 1.0, share)


def _notes(plan: _Plan) -> str:
    return f"""\
- TRL's GRPOTrainer on a two-layer model, on the CPU; the same seed and {plan.steps} steps for all, in turns,
  in one process, after one short training each to warm up.
- torch has one thread: with one for each core its barriers wait for whatever else runs on any core, and
  even a training without callbacks took up to ten times as long beside other work.
- The trackers' runs are opened before and closed after, untimed: MLflow on a SQLite file without a
  server, so that this process does the database's work too, and W&B offline. RLDK has delivered all when
  training ends; MLflowCallback leaves what MLflow's threads have not yet written to the end of its run.
- A step takes some tens of milliseconds here, hundreds of times less than one of a real model. What RLDK
  costs a step is the same there: the share that it takes is smaller by as much.
- The goal counts the hooks that the loop calls for each step. What is spent once, when training begins
  and when it ends (delivering the rest, and the files), does not grow with its length; the wall times
  include it. The threads that deliver show in the CPU time, and in the wall time where cores are scarce."""
