"""`rldk diff`: where two runs part, and in what they were set up otherwise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from rldk.cli import completing, options
from rldk.cli.app import FOUND, app, console, notes, reading_bar
from rldk.cli.options import Adapters, EachRun, FieldMap, Json, of_each
from rldk.cli.output import write_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rldk.diff import Diff, Metric, Run

_METRICS_SHOWN = 12
_SETTINGS_SHOWN = 20
_NAMES_SHOWN = 8
_LETTERS_SHOWN = 60
_APART = (
    "apart: difference of the means over the last tenth, in standard deviations of one point; "
    "* beyond 3 standard errors, or not finite in another way"
)


@app.command()
def diff(
    first: Annotated[
        str, typer.Argument(metavar="A", help="The first run: a SOURCE as in the other commands.")
    ],
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="The second run; without it A holds both.")
    ] = None,
    *,
    rtol: Annotated[float, typer.Option(help="Numbers are the same within this share of the larger.")] = 1e-6,
    atol: Annotated[float, typer.Option(help="Or within this distance.")] = 0.0,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only these; * and ? stand for any text. Again for more.",
            autocompletion=completing.metrics,
        ),
    ] = None,
    runs: EachRun = None,
    adapter: Adapters = None,
    field_map: FieldMap = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what parts, as .png, .svg or .pdf.")
    ] = None,
    all_metrics: Annotated[
        bool, typer.Option("--all", help="Show what is the same, too, and times.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs: where each metric parts, how far apart it ends, and what was set otherwise.

    Exit code 1 if they differ in what they measured; times and speeds do not count.
    """
    from rldk.diff import diff as compare

    with reading_bar() as watch:
        found = compare(
            first,
            second,
            rtol=rtol,
            atol=atol,
            metrics=metrics,
            runs=of_each("--runs", runs),
            adapter_hints=of_each("--adapter", adapter),
            field_map=options.field_map(field_map),
            plot=plot,
            watch=watch,
        )
    if as_json:
        write_document({"is_same": found.is_same, **msgspec.to_builtins(found), "plot": plot})
    else:
        _show(found, is_all=all_metrics)
        if plot is not None:
            console.print(f"drawn in {plot}", markup=False, soft_wrap=True)
    notes([*found.a.problems, *found.b.problems])
    if not found.is_same:
        raise typer.Exit(FOUND)


def _show(found: Diff, *, is_all: bool) -> None:
    for letter, run in (("A", found.a), ("B", found.b)):
        console.print(f"[bold]{letter}  {escape(run.run_id)}[/bold]  {escape(_about(run))}", soft_wrap=True)
    console.print(escape(found.summary), soft_wrap=True)
    _show_metrics(found, is_all=is_all)
    _show_settings(found)
    _show_health(found)
    for letter, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            console.print(f"only in {letter}: {escape(_listed(names))}", soft_wrap=True)


def _about(run: Run) -> str:
    steps = f"steps {run.first_step} to {run.last_step}" if run.steps else "no step of training"
    return ", ".join(
        filter(None, [run.trainer or "unknown trainer", steps, run.status, f"health {run.verdict}"])
    )


def _table(title: str, of: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(of, overflow="fold")
    return table


def _show_metrics(found: Diff, *, is_all: bool) -> None:
    shown = found.metrics if is_all else found.parted[:_METRICS_SHOWN]
    if not shown:
        return
    table = _table("Metrics, the furthest apart in the end first", "metric")
    for heading in ("parts at", "A", "B", "end of A", "end of B", "apart"):
        table.add_column(heading, justify="right")
    for metric in shown:
        table.add_row(*_row(metric))
    console.print(table)
    console.print(_APART)
    if len(shown) < len(found.parted):
        console.print(f"and {len(found.parted) - len(shown)} more; --all shows them", markup=False)


def _row(metric: Metric) -> list[str]:
    from rldk.diff.words import pair

    first, end = metric.first, metric.end
    a, b = ("", "") if first is None else pair(first.a, first.b)
    means = ("", "") if end is None else pair(end.mean_a, end.mean_b)
    step = "" if first is None else str(first.step)
    return [escape(metric.label), step, a, b, *means, _apart(metric)]


def _apart(metric: Metric) -> str:
    """How far apart in the end; what is not finite by its name, a `?` where nobody can tell."""
    end, mark = metric.end, "*" if metric.is_apart else " "
    if metric.is_broken:
        return f"{next(filter(math.isnan, metric.not_finite), metric.not_finite[0])}{mark}"
    if end is None or end.distance is None:
        return "? "
    return f"{end.distance:+.1f}{mark}"


def _show_settings(found: Diff) -> None:
    if not found.settings:
        return
    table = _table("Set otherwise", "what")
    for heading in ("A", "B"):
        table.add_column(heading, overflow="fold")
    ordered = sorted(found.settings, key=lambda one: one.is_place)
    for one in ordered[:_SETTINGS_SHOWN]:
        table.add_row(escape(one.name), _value(one.a), _value(one.b), style="dim" if one.is_place else None)
    console.print(table)
    if len(ordered) > _SETTINGS_SHOWN:
        console.print(f"and {len(ordered) - _SETTINGS_SHOWN} more; --json has them all", markup=False)


def _value(value: Any) -> str:  # noqa: ANN401  # any JSON value
    text = str(value)
    return escape(text if len(text) <= _LETTERS_SHOWN else f"{text[:_LETTERS_SHOWN]}...")


def _show_health(found: Diff) -> None:
    fired = [{alert.rule: alert for alert in reversed(run.alerts)} for run in (found.a, found.b)]
    rules = list(dict.fromkeys(alert.rule for run in (found.a, found.b) for alert in run.alerts))
    if not rules:
        return
    table = _table("Health: the rules that fired, and when first", "rule")
    for heading in ("A", "B"):
        table.add_column(heading)
    for rule in rules:
        cells = [f"{one[rule].severity} at {one[rule].step}" if rule in one else "" for one in fired]
        table.add_row(escape(rule), *cells)
    console.print(table)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
