"""`rldk sync`: a run goes from where it is kept into a tracker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli import completing
from rldk.cli.app import FOUND, UNREADABLE, app, console, errors, notes, progress_bar
from rldk.cli.options import Adapter, Json, Runs, Sources
from rldk.cli.output import write_document
from rldk.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk.sync import Outcome, Plan, Progress

_NAMES_SHOWN = 5


@app.command()
def sync(
    sources: Sources,
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="TRACKER", help="The tracker: mlflow or wandb.", autocompletion=completing.trackers
        ),
    ],
    into: Annotated[
        str | None,
        typer.Option(help="Experiment (MLflow) or project (W&B) for runs that are new to the tracker."),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Of a folder or server of W&B runs, those of this project.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="SOURCE is an MLflow tracking URI: all runs of this experiment.")
    ] = None,
    runs: Runs = None,
    adapter: Adapter = None,
    follow: Annotated[bool, typer.Option(help="Go on until the run has ended.")] = False,
    again: Annotated[
        bool, typer.Option(help="Forget what was noted of earlier calls, and ask the tracker what it has.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Write nothing; say what would be sent.")] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Leave a tracker that has failed for so many seconds.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Send a run, or many, to a tracker: what it lacks, and nothing twice.

    A run whose tracker was down goes on where it stopped.
    It can be interrupted at any moment and called again.
    Exit code 1 if something did not arrive.
    """
    from rldk import settings
    from rldk import sync as the_sync

    if follow and len(sources) > 1:
        raise SettingError("--follow", len(sources), "one source")
    named = [f"{source}#experiments/{experiment}" if experiment else source for source in sources]
    which: dict[str, Any] = {"hint": adapter, "project": into, "only": project, "runs": runs}
    if dry_run:
        _tell_plans(list(the_sync.plan(named, to, **which)), to, as_json=as_json)
        return
    how: dict[str, Any] = {
        "settings": settings.from_environment(),
        "follow": follow,
        "again": again,
        "patience_s": patience,
    }
    with _watched() as watch:
        outcomes = []
        for outcome in the_sync.sync(named, to, watch=watch, **which, **how):
            outcomes.append(outcome)
            _show(outcome, to, as_json=as_json)
    if as_json:
        write_document({"tracker": to, "runs": [_document(outcome) for outcome in outcomes]})
    raise typer.Exit(_code(outcomes))


@contextmanager
def _watched() -> Iterator[Callable[[Progress], None]]:
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)

        def watch(now: Progress) -> None:
            state = f"{now.run_id} (no answer, trying again)" if now.is_failing else now.run_id
            bar.update(task, description=escape(state), completed=now.done, total=now.total)

        yield watch


def _code(outcomes: list[Outcome]) -> int:
    if any(outcome.report is not None and not outcome.is_whole for outcome in outcomes):
        return FOUND
    return UNREADABLE if any(outcome.error for outcome in outcomes) else 0


def _show(outcome: Outcome, tracker: str, *, as_json: bool) -> None:
    report = outcome.report
    told = ""
    if report is not None:
        where = "nowhere" if report.home is None else report.home.url or report.home.source
        again = f", {report.replayed} sent again" if report.replayed else ""
        counts = f"{report.delivered} events sent{again}, {report.rejected} refused, {report.waiting} waiting"
        lost = f"{tracker} has it no more at {outcome.lost}, sent anew: " if outcome.lost else ""
        told = f"{outcome.run_id}: {lost}{counts}; {where}"
    elif not outcome.error:
        elsewhere = f"--again sends it to where {tracker} is configured now"
        told = f"{outcome.run_id}: {tracker} has it already; {outcome.home} ({elsewhere})"
    if told and not as_json:
        console.print(told, soft_wrap=True, markup=False)
    if outcome.error:
        errors.print(f"[red]rldk:[/red] {escape(outcome.error)}", soft_wrap=True)
    for reason in report.reasons if report is not None and not outcome.is_whole else ():
        errors.print(f"[red]incomplete:[/red] {escape(reason)}", soft_wrap=True)
    notes(outcome.problems)


def _document(outcome: Outcome) -> dict[str, Any]:
    report = outcome.report
    told: dict[str, Any] = {
        "run_id": outcome.run_id or None,
        "source": outcome.source,
        "is_whole": outcome.is_whole,
        "error": outcome.error or None,
        "home": outcome.home or None,
        "lost": outcome.lost or None,
        "url": None,
        "delivered": 0,
        "replayed": 0,
        "rejected": 0,
        "waiting": 0,
        "reasons": [],
        "problems": list(outcome.problems),
    }
    if report is not None:
        home = report.home
        told |= {name: getattr(report, name) for name in ("delivered", "replayed", "rejected", "waiting")}
        told |= {"reasons": list(report.reasons)}
        told |= {} if home is None else {"home": home.source, "url": home.url}
    return told


def _tell_plans(plans: list[Plan], tracker: str, *, as_json: bool) -> None:
    if as_json:
        from rldk import bridge

        losses = list(bridge.sink(tracker).losses)
        write_document({"tracker": tracker, "plans": plans, "losses": losses})
        return
    for plan in plans:
        _show_plan(plan, tracker)


def _show_plan(plan: Plan, tracker: str) -> None:
    from rldk import bridge

    console.print(f"{plan.run_id}", style="bold", markup=False)
    table = Table(show_header=False, box=None)
    steps = f", steps {plan.steps[0]} to {plan.steps[1]}" if plan.steps else ""
    table.add_row("from", escape(plan.source))
    table.add_row("to", escape(f"{tracker}: {plan.target}"))
    table.add_row("would send", f"{plan.events} events with {plan.points} numbers{steps}")
    table.add_row("", f"{plan.config} parameters, {plan.tags} tags, and the run's files")
    for name, shown in list(plan.renamed.items())[:_NAMES_SHOWN]:
        table.add_row("renamed", escape(f"{name} to {shown}"))
    for name, count in list(plan.changed.items())[:_NAMES_SHOWN]:
        table.add_row("changed", escape(f"{count} values of {name}"))
    if plan.unsent or plan.notes:
        table.add_row("not kept", f"{plan.unsent} events without a number, {plan.notes} notes")
    console.print(table, soft_wrap=True)
    console.print(f"What {tracker} cannot keep:", markup=False)
    for loss in bridge.sink(tracker).losses:
        console.print(f"  {loss}", soft_wrap=True, markup=False)
