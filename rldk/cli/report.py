"""`rldk report`: the files that tell of a run, made again from wherever it is kept."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from rldk.cli.app import app, console, errors, fail
from rldk.errors import RLDKError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rldk.history import History

_NAMES_SHOWN = 20


@app.command()
def report(
    sources: Annotated[
        list[str], typer.Argument(help="Journals, W&B folders, MLflow runs, trainer states, CSVs, ...")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the files; it is made.")
    ] = Path("rldk-report"),
    runs: Annotated[
        list[str] | None, typer.Option(help="Only runs with these ids; * and ? stand for any text.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Read the sources with this adapter.")] = None,
) -> None:
    """Write what is told of a run: its table, its alerts, its final report, and a page with plots.

    A run that was judged while it ran keeps its alerts; any other is judged now. Exit code 3 if nothing
    can be read, 2 if a file cannot be written.
    """
    try:
        for history in _wanted(sources, runs, adapter):
            _write(history, out)
    except RLDKError as error:
        fail(error)


def _wanted(sources: list[str], runs: list[str] | None, adapter: str | None) -> Iterator[History]:
    """Give the runs that were asked for.

    Raises:
        SettingError: None of those that are there was.
    """
    from rldk.history import histories

    there, is_any = [], False
    for history in histories(sources, adapter_hint=adapter):
        there.append(history.run_id)
        if runs is None or any(fnmatch.fnmatchcase(history.run_id, pattern) for pattern in runs):
            is_any = True
            yield history
    if not is_any:
        shown = ", ".join(there[:_NAMES_SHOWN])
        raise SettingError("--runs", ",".join(runs or []), f"ids of these runs: {shown}")


def _write(history: History, out: Path) -> None:
    from rldk.health.rules import built_in
    from rldk.report.judging import is_judged, judged
    from rldk.report.outputs import write_all
    from rldk.report.story import Story

    if is_judged(history.events()):
        story: Story = Story.of(history.events(), history.run_id)
        health: Mapping[str, Any] | None = None
    else:
        story, health = judged(history.events(), built_in(), history.run_id)
    for path in write_all(story, out, health=health):
        console.print(str(path), soft_wrap=True, markup=False)
    for problem in history.problems:
        errors.print(f"note: {escape(problem)}", soft_wrap=True)
