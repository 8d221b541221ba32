"""`rldk verify`: do two homes of one run hold the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import FOUND, app, console, notes, reading_bar
from rldk.cli.options import Adapters, EachRun, Json, of_each
from rldk.cli.output import write_document

if TYPE_CHECKING:
    from rldk.verify import Difference, Verdict

_FAULTS = ("missing", "altered", "repeated", "extra")


@app.command()
def verify(
    left: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The home that is right, such as the journal.")
    ],
    right: Annotated[str, typer.Argument(metavar="SOURCE", help="The home to examine.")],
    *,
    runs: EachRun = None,
    adapter: Adapters = None,
    as_json: Json = False,
) -> None:
    """Compare two homes of one run point for point: a metric's value at a step and time.

    Exit code 1 if points are missing, altered, repeated or extra; their metrics are named.
    """
    from rldk import verify as the_verify

    with reading_bar() as watch:
        verdict = the_verify.verify(
            left,
            right,
            runs=of_each("--runs", runs),
            hints=of_each("--adapter", adapter),
            watch=watch,
        )
    if as_json:
        write_document(_document(left, right, verdict))
    elif verdict.agrees:
        console.print(f"The same {verdict.points} points are in both.")
    else:
        _show(verdict)
    notes(verdict.problems)
    if not verdict.agrees:
        raise typer.Exit(FOUND)


def _document(left: str, right: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "left": left,
        "right": right,
        "agrees": verdict.agrees,
        "points": verdict.points,
        "differences": {metric: dict(counts) for metric, counts in verdict.counts.items()},
        "examples": [example._asdict() for example in verdict.examples],
        "problems": verdict.problems,
    }


def _show(verdict: Verdict) -> None:
    table = Table(title="Points that differ", title_justify="left")
    table.add_column("metric")
    for fault in _FAULTS:
        table.add_column(fault, justify="right")
    for metric, counts in verdict.counts.items():
        table.add_row(escape(metric), *(str(counts[fault] or "") for fault in _FAULTS))  # type: ignore[index]
    console.print(table)
    for example in verdict.examples:
        console.print(_told(example), soft_wrap=True, markup=False)


def _told(one: Difference) -> str:
    there = {
        "missing": f"{one.left!r} is missing",
        "altered": f"{one.left!r} is {one.right!r}",
        "repeated": f"{one.right!r} is there once more",
        "extra": f"{one.right!r} is extra",
    }
    return f"  {one.metric} at step {one.step}, time {one.time:.3f}: {there[one.fault]}"
