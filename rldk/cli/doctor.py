"""`rldk doctor`: what keeps a training from being recorded and judged."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rldk.cli import completing, options
from rldk.cli.app import FOUND, app, console
from rldk.cli.output import write_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rldk.doctor.configuration import Configuration
    from rldk.doctor.finding import Finding
    from rldk.health.foresight import Foreseen

_MARKS = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}
_WIDTH = 10


@app.command()
def doctor(
    *,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE or SOURCE",
            help="The arguments of a training: a YAML, JSON or TOML file, a checkpoint, or any run.",
        ),
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option(
            help="Its trainer, such as GRPO, where the configuration does not tell.",
            autocompletion=completing.trainers,
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An argument of the trainer, such as beta=0."),
    ] = None,
    rules: options.Rules = None,
    trackers: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            metavar="NAME",
            help="Ask only this tracker. Again for more.",
            autocompletion=completing.trackers,
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no tracker.")] = False,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where the journal is to go; by default the configuration's, or here.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=600, help="Seconds that all that is asked outside may take together.")
    ] = 30.0,
    as_json: options.Json = False,
) -> None:
    """Examine versions, trackers, GPUs, disk and settings, and which rules a configuration will blind.

    MLflow is tried with a run in the experiment rldk-doctor, which is deleted again; W&B with a file in its
    folder, which is removed again, and a question to its server, but with no run. Exit code 1 if a warning
    or a problem is found, 2 if the command cannot do what it was asked for, 3 if the configuration cannot
    be read.
    """
    from rldk.doctor.finding import FOUND as ARE_FOUND

    known, foreseen = _configuration(config, trainer, arguments or [], rules or [], timeout)
    found: list[Finding] = []
    for finding in _examined(known, foreseen, _asked(trackers, offline=offline), output_dir, timeout):
        if not as_json:
            _show(finding, found[-1].area if found else "")
        found.append(finding)
    if as_json:
        write_document(_told(known, foreseen, found))
    raise typer.Exit(FOUND if any(each.state in ARE_FOUND for each in found) else 0)


def _configuration(
    config: str | None, trainer: str | None, given: Sequence[str], rules: Sequence[Path], limit_s: float
) -> tuple[Configuration | None, list[Foreseen]]:
    if config is None and trainer is None and not given:
        return None, []
    from rldk.doctor.configuration import configured
    from rldk.doctor.defaults import Asked, Said, ask
    from rldk.doctor.sight import outlooks
    from rldk.health.rule_files import rules_with
    from rldk.versions import installed

    known = configured(config, trainer, given)
    if known.typed or not known.is_whole:
        # Those of a whole run hold what its class made of them, which it need not take again
        values = {name: known.args[name] for name in known.typed} if known.is_whole else known.args
        said = ask(known.trainer, limit_s, Asked(values, not known.is_whole)) or Said({})
        told = {} if known.is_whole else said.defaults
        usual = {name: value for name, value in told.items() if value is not None}
        known = known._replace(
            args=usual | known.args,
            names=known.names | frozenset(said.defaults),
            faults=tuple(said.faults),
        )
    return known, outlooks(rules_with(rules), known, installed("trl") or "")


def _asked(trackers: list[str] | None, *, offline: bool) -> list[str]:
    """Name what is to be asked in processes of its own."""
    from rldk import bridge
    from rldk.doctor.child import BESIDE

    known = bridge.sinks()
    names = [] if offline else [*known] if trackers is None else list(dict.fromkeys(trackers))
    for name in names:
        bridge.sink(name)
    return [*names, *BESIDE]


def _examined(
    known: Configuration | None,
    foreseen: Sequence[Foreseen],
    asked: Sequence[str],
    output_dir: Path | None,
    limit_s: float,
) -> Iterable[Finding]:
    from rldk.doctor import machine
    from rldk.doctor.child import BESIDE
    from rldk.doctor.probes import probe
    from rldk.doctor.sight import refusals, reports, sight, strangers
    from rldk.versions import LIBRARIES, installed

    folder = output_dir or Path(str(known.args.get("output_dir") or ".") if known else ".")
    local = (machine.versions(known.trainer if known else ""), machine.environment(), machine.disk(folder))
    yield from itertools.chain(*local, probe(asked, limit_s))
    if known is not None:
        here = [name for name in LIBRARIES if installed(name) and name not in BESIDE]
        yield from strangers(known)
        yield from refusals(known)
        yield from reports(known, [name for name in here if name in {"mlflow", "wandb"}])
        yield from sight(foreseen, known)


def _show(finding: Finding, area: str) -> None:
    from rldk.tail.glyphs import clean

    if finding.area != area:
        console.print(f"[bold]{escape(finding.area)}[/bold]")
    what, said, todo = map(clean, (finding.what, finding.told, finding.remedy))
    told = Text.assemble((what, "bold"), ": ", said)
    if todo:
        told.append("; ").append(todo, style="italic")
    line = Table.grid(padding=(0, 1))
    line.add_column(width=_WIDTH)
    line.add_row(Text(f"  {finding.state}", style=_MARKS[finding.state]), told)
    console.print(line)


def _told(
    known: Configuration | None, foreseen: Sequence[Foreseen], found: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "findings": [each._asdict() for each in found],
        "trainer": known.trainer if known else None,
        "max_steps": known.max_steps if known else None,
        "rules": [each._asdict() for each in foreseen],
    }
