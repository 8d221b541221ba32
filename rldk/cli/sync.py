"""`rldk sync`: a run goes from where it is kept into a tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import FOUND, UNREADABLE, app, console, errors, fail, progress_bar
from rldk.errors import RLDKError

if TYPE_CHECKING:
    from rldk.sync import Outcome, Plan, Progress

_INTERRUPTED = 130
_NAMES_SHOWN = 5


@app.command()
def sync(
    source: Annotated[
        str, typer.Argument(help="A journal, a W&B run folder, an MLflow run, or what holds many of them.")
    ],
    to: Annotated[str, typer.Option(help="The tracker: mlflow or wandb.")],
    *,
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
    follow: Annotated[bool, typer.Option(help="Go on until the run has ended.")] = False,
    again: Annotated[
        bool, typer.Option(help="Forget what was noted of earlier calls, and ask the tracker what it has.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Write nothing; say what would be sent.")] = False,
    adapter: Annotated[str | None, typer.Option(help="Read the source with this adapter.")] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Leave a tracker that has failed for so many seconds.")
    ] = 60.0,
) -> None:
    """Send a run, or many, to a tracker: what it lacks, and nothing twice.

    A run whose tracker was down goes on where it stopped. It can be interrupted at any moment and called
    again. Exit code 1 if something did not arrive.
    """
    from rldk import settings
    from rldk import sync as the_sync

    named = f"{source}#experiments/{experiment}" if experiment else source
    try:
        if dry_run:
            for plan in the_sync.plan(named, to, hint=adapter, project=into, only=project):
                _show_plan(plan, to)
            return
        with progress_bar() as bar:
            task = bar.add_task("reading", total=None)

            def watch(now: Progress) -> None:
                state = f"{now.run_id} (no answer, trying again)" if now.is_failing else now.run_id
                bar.update(task, description=escape(state), completed=now.done, total=now.total)

            outcomes = [
                _shown(outcome, to)
                for outcome in the_sync.sync(
                    named,
                    to,
                    settings=settings.from_environment(),
                    hint=adapter,
                    project=into,
                    only=project,
                    follow=follow,
                    again=again,
                    patience_s=patience,
                    watch=watch,
                )
            ]
    except RLDKError as error:
        fail(error)
    except KeyboardInterrupt:
        errors.print("interrupted; call it again to go on")
        raise typer.Exit(_INTERRUPTED) from None
    if not outcomes:
        errors.print(
            f"rldk: {escape(source)} holds no run" + (f" of project {escape(project)}" if project else "")
        )
        raise typer.Exit(FOUND)
    raise typer.Exit(_code(outcomes))


def _code(outcomes: list[Outcome]) -> int:
    if any(outcome.report is not None and not outcome.is_whole for outcome in outcomes):
        return FOUND
    return UNREADABLE if any(outcome.error for outcome in outcomes) else 0


def _shown(outcome: Outcome, tracker: str) -> Outcome:
    report = outcome.report
    if outcome.error:
        errors.print(f"[red]rldk:[/red] {escape(outcome.error)}", soft_wrap=True)
    elif report is None:
        console.print(
            f"{outcome.run_id}: {tracker} has it already; {outcome.home}", soft_wrap=True, markup=False
        )
    else:
        where = "nowhere" if report.home is None else report.home.url or report.home.source
        again = f", {report.replayed} sent again" if report.replayed else ""
        counts = f"{report.delivered} events sent{again}, {report.rejected} refused, {report.waiting} waiting"
        console.print(f"{outcome.run_id}: {counts}; {where}", soft_wrap=True, markup=False)
        for reason in report.reasons if not outcome.is_whole else ():
            errors.print(f"[red]incomplete:[/red] {escape(reason)}", soft_wrap=True)
    for problem in outcome.problems:
        errors.print(f"note: {escape(problem)}", soft_wrap=True)
    return outcome


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
