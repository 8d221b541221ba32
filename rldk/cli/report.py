"""`rldk report`: the files that tell of a run, made again from wherever it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rldk.cli import options
from rldk.cli.app import app, console, notes, reading_bar
from rldk.cli.options import Adapter, FieldMap, Json, Runs, Sources
from rldk.cli.output import write_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.history import History


@app.command()
def report(
    sources: Sources,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the files; it is made.")
    ] = Path("rldk-report"),
    runs: Runs = None,
    adapter: Adapter = None,
    field_map: FieldMap = None,
    as_json: Json = False,
) -> None:
    """Write what is told of a run: its table, its alerts, its final report, and a page with plots.

    A run that was judged while it ran keeps its alerts; any other is judged now.
    """
    from rldk.history import histories

    written = []
    with reading_bar() as watch:
        renamed = options.field_map(field_map)
        for history in histories(sources, adapter_hint=adapter, field_map=renamed, runs=runs, watch=watch):
            paths = _write(history, output)
            written.append({"run_id": history.run_id, "files": paths, "problems": history.problems})
            for path in paths if not as_json else ():
                console.print(str(path), soft_wrap=True, markup=False)
            notes(history.problems)
    if as_json:
        write_document({"runs": written})


def _write(history: History, folder: Path) -> list[Path]:
    from rldk.health.rules import built_in
    from rldk.report.judging import is_judged, judged
    from rldk.report.outputs import write_all
    from rldk.report.story import Story

    if is_judged(history.events()):
        story: Story = Story.of(history.events(), history.run_id)
        health: Mapping[str, Any] | None = None
    else:
        story, health = judged(history.events(), built_in(), history.run_id)
    return list(write_all(story, folder, health=health))
