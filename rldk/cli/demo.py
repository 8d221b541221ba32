"""`rldk demo`: a training that is recorded everywhere, read back and compared."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import FOUND, app, console, errors, progress_bar
from rldk.cli.options import Json
from rldk.cli.output import write_document

if TYPE_CHECKING:
    import pandas as pd

    from rldk.demo import DemoRun, Readback

_LAST_STEPS = 8
_BEGINNING = "Training a tiny model with GRPO. A metric of its own begins with NaN, to see a NaN arrive."
_SHOWN = ("step", "phase", "reward_mean", "kl_mean", "grad_norm", "loss", "reward_gain_per_kl")


class Tracker(StrEnum):
    """Which trackers the demo opens."""

    none = "none"
    mlflow = "mlflow"
    wandb = "wandb"
    all = "all"

    @property
    def names(self) -> list[str]:
        """The trackers, one by one."""
        if self is Tracker.all:
            return ["mlflow", "wandb"]
        return [] if self is Tracker.none else [self.value]


@app.command()
def demo(
    *,
    tracker: Annotated[Tracker, typer.Option(help="Which trackers to record in.")] = Tracker.all,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder for all that the run writes.")
    ] = Path("rldk-demo"),
    steps: Annotated[int, typer.Option(min=2, help="Optimizer steps to train.")] = 40,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server to record in, instead of a database in the folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a tiny model with TRL's GRPO, record it everywhere, read it back and compare.

    Exit code 1 if the trackers do not give back what the journal holds.
    """
    from rldk import demo as the_demo

    if not as_json:
        console.print(_BEGINNING, soft_wrap=True)
    with progress_bar() as progress:
        task = progress.add_task("loading TRL", total=steps)
        run = the_demo.train(
            output,
            steps=steps,
            trackers=tracker.names,
            on_step=lambda step: progress.update(task, completed=step, description="training"),
            tracking_uri=tracking_uri,
        )
    if not as_json:
        _show_homes(run, output)
    readback = the_demo.read_back(run)
    if as_json:
        write_document(_document(run, readback))
    else:
        _show_last_steps(readback.tables["journal"])
        _show_agreement(readback)
    for reason in run.incomplete:
        errors.print(f"[red]incomplete[/red] {escape(reason)}", soft_wrap=True)
    if run.incomplete or not readback.agrees:
        raise typer.Exit(FOUND)


def _document(run: DemoRun, readback: Readback) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "sources": run.sources,
        "deliveries": [
            {
                "tracker": report.tracker,
                "delivered": report.delivered,
                "rejected": report.rejected,
                "waiting": report.waiting,
            }
            for report in run.reports
        ],
        "rows": len(readback.tables["journal"]),
        "agrees": readback.agrees and not run.incomplete,
        "differences": {
            home: {name: count for name, count in columns.items() if count}
            for home, columns in readback.differences.items()
        },
        "incomplete": run.incomplete,
    }


def _show_homes(run: DemoRun, output: Path) -> None:
    console.print(f"Run {run.run_id} is in", style="bold")
    for name, source in run.sources.items():
        console.print(f"  {name:<8} {source}", soft_wrap=True, markup=False)
    for report in run.reports:
        console.print(
            f"  {report.tracker:<8} {report.delivered} events delivered,"
            f" {report.rejected} refused, {report.waiting} waiting"
        )
    if run.sources.get("mlflow", "").startswith("sqlite:"):
        store = f"sqlite:///{(output / 'mlflow.db').resolve()}"
        console.print("Open the MLflow UI with:", style="bold")
        command = shlex.join([_command("mlflow"), "server", "--backend-store-uri", store])
        console.print(f"  {command}", soft_wrap=True, markup=False)


def _command(name: str) -> str:
    """How to call a command of this environment: by its path, where the shell does not find it."""
    return name if shutil.which(name) else str(Path(sys.executable).with_name(name))


def _show_last_steps(journal: pd.DataFrame) -> None:
    table = Table(title="The last steps, as ingested from the journal", title_justify="left")
    for name in _SHOWN:
        table.add_column(name, justify="right")
    for row in journal.tail(_LAST_STEPS)[list(_SHOWN)].itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _show_agreement(readback: Readback) -> None:
    if not readback.differences:
        console.print("The journal is the only home; nothing to compare it with.")
        return
    journal = readback.tables["journal"]
    table = Table(title="Does each tracker give back what the journal holds?", title_justify="left")
    for heading in ("metric", "values", "not finite", *readback.differences):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in dict.fromkeys(c for columns in readback.differences.values() for c in columns):
        measured = journal[name].dropna() if name in journal else journal["step"].iloc[:0]
        counts = [columns.get(name, 0) for columns in readback.differences.values()]
        verdicts = ["yes" if not count else f"[red]{count} differ[/red]" for count in counts]
        table.add_row(name, str(len(measured)), str(_not_finite(measured)), *verdicts)
    console.print(table)
    verdict = "agree on every value" if readback.agrees else "[red]do not agree[/red]"
    console.print(f"{', '.join(readback.tables)} {verdict} of {len(journal)} rows.")


def _not_finite(measured: pd.Series) -> int:
    return sum(isinstance(value, float) and not math.isfinite(value) for value in measured)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if str(value) == "<NA>" else str(value)
