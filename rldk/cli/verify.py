"""`rldk verify`: do two homes of one run hold the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import FOUND, app, console, errors, fail
from rldk.errors import RLDKError

if TYPE_CHECKING:
    from rldk.verify import Difference, Verdict

_FAULTS = ("missing", "altered", "repeated", "extra")


@app.command()
def verify(
    left: Annotated[str, typer.Argument(help="The home that is right, such as the journal.")],
    right: Annotated[str, typer.Argument(help="The home to examine.")],
    *,
    adapters: Annotated[
        tuple[str, str], typer.Option(help="Read the two with these adapters.", show_default=False)
    ] = ("", ""),
) -> None:
    """Compare two homes of one run point for point: a metric's value at a step and time.

    Exit code 1 if points are missing, altered, repeated or extra; their metrics are named.
    """
    from rldk import verify as the_verify

    try:
        verdict = the_verify.verify(left, right, hints=(adapters[0] or None, adapters[1] or None))
    except RLDKError as error:
        fail(error)
    for problem in verdict.problems:
        errors.print(f"note: {escape(problem)}", soft_wrap=True)
    if verdict.agrees:
        console.print(f"The same {verdict.points} points are in both.")
        return
    _show(verdict)
    raise typer.Exit(FOUND)


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
