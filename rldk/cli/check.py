"""`rldk check`: the health rules over runs that are over, with an exit code."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli import options, weights
from rldk.cli.app import FOUND, app, console, notes, reading_bar
from rldk.cli.options import Adapter, FieldMap, Json, Rules, Runs, Sources, Thresholds
from rldk.cli.output import write_document
from rldk.errors import SettingError, SourceError
from rldk.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rldk.check import Checked
    from rldk.cli.weights import Weighed
    from rldk.health.rule import Rule
    from rldk.health.standing import Change

_STYLES = {"info": "cyan", "warning": "yellow", "critical": "bold red"}
_REASON_LETTERS = 160
_PARTS = {
    "resource": "the run holds too few samples of resources",
    "checkpoint": "no checkpoint was analysed",
}


class FailOn(StrEnum):
    """From which severity on the command ends with code 1."""

    info = "info"
    warning = "warning"
    critical = "critical"
    never = "never"


@app.command()
def check(
    sources: Sources,
    *,
    rules: Rules = None,
    threshold: Thresholds = None,
    fail_on: Annotated[FailOn, typer.Option(help="End with code 1 from this severity on.")] = FailOn.critical,
    runs: Runs = None,
    adapter: Adapter = None,
    field_map: FieldMap = None,
    all_rules: Annotated[bool, typer.Option("--all", help="Show the rules that are well, too.")] = False,
    as_json: Json = False,
) -> None:
    """Judge runs that are over as if the rules had run along; several at once are counted, too.

    A source may be a checkpoint, too: the weights in its folder are examined.
    Exit code 1 if something is as bad as `--fail-on`.
    """
    asked = _rules(rules or [], threshold or [])
    told = {"adapter_hint": adapter, "runs": runs, "field_map": options.field_map(field_map)}
    with reading_bar() as watch:
        weighed, unread = _weighed(sources)
        runs_of = [source for source in sources if source not in weighed | unread or _has_logs(source)]
        try:
            found = _judged(runs_of, asked, told | {"watch": watch})
        except SourceError as error:
            found, unread = [], unread | {error.source: error}
    for hindrance in unread.values() if not weighed and not found else ():
        raise hindrance
    if as_json:
        write_document(_document(found, list(weighed.values())))
    else:
        _show_all(found, weighed.values(), is_all=all_rules)
    for hindrance in unread.values():  # the rest has been told all the same
        raise hindrance
    worst = max([each.worst for each in found] + [each.worst for each in weighed.values()], default=0)
    if _is_as_bad(worst, fail_on):
        raise typer.Exit(FOUND)


def _rules(files: Sequence[Path], thresholds: Sequence[str]) -> list[Rule]:
    from rldk.health.limits import limits
    from rldk.health.rule_files import rules_with

    return [*rules_with(files), *limits(dict(_limit(text) for text in thresholds))]


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise SettingError("--threshold", text, "NAME=NUMBER, such as kl_divergence=0.1") from error


def _judged(sources: Sequence[str], rules: Sequence[Rule], told: dict[str, Any]) -> list[Checked]:
    from rldk.check import check as judge
    from rldk.history import histories

    return [judge(each, rules) for each in histories(sources, **told)] if sources else []


def _weighed(sources: Sequence[str]) -> tuple[dict[str, Weighed], dict[str, SourceError]]:
    """What the weights of checkpoints among the sources tell, and which of them cannot be read."""
    told: dict[str, Weighed] = {}
    unread: dict[str, SourceError] = {}
    for source in sources:
        try:
            one = weights.weigh(source)
        except SourceError as error:
            unread[source] = error
            continue
        if one is not None:
            told[source] = one
    return told, unread


def _has_logs(source: str) -> bool:
    """Whether a checkpoint holds the log of its training, too."""
    return (Path(source) / "trainer_state.json").is_file()


def _is_as_bad(worst: int, fail_on: FailOn) -> bool:
    return fail_on is not FailOn.never and worst >= 1 + list(FailOn).index(fail_on)


def _show_all(runs: Sequence[Checked], checkpoints: Iterable[Weighed], *, is_all: bool) -> None:
    folders = []
    for checkpoint in checkpoints:
        weights.show(checkpoint)
        folders.append(checkpoint.folder)
    for each in runs:
        _show(each, is_all=is_all, is_alone=len(runs) == 1, is_weighed=_is_among(each, folders))
    if len(runs) > 1:
        _show_tally(runs)


def _is_among(run: Checked, folders: Iterable[Path]) -> bool:
    """Whether a run's log is that of a checkpoint whose weights were weighed."""
    return any(folder in {Path(run.source), Path(run.source).parent} for folder in folders)


def _show(run: Checked, *, is_all: bool, is_alone: bool, is_weighed: bool) -> None:
    health = run.health
    rules = [line for line in health["rules"] if not (is_weighed and line["part"] == "checkpoint")]
    head = f"{run.run_id}: {health['verdict']}"
    ended = f", {run.status}" if run.status else ""
    told = f"{run.trainer or 'unknown trainer'}, {run.points} logs to step {run.last_step}{ended}"
    console.print(f"[bold]{escape(head)}[/bold]  {escape(told)}", soft_wrap=True)
    for change in run.changes:
        style = _STYLES[change.severity] if change.level else "green"
        said = f"step {change.step:>6}  {change.severity if change.level else 'over'}"
        console.print(f"  [{style}]{said}[/{style}]  {escape(change.message)}", soft_wrap=True)
    if is_all:
        _show_rules(rules)
    elif is_alone:
        _show_unavailable(rules)
    notes(run.problems)


def _show_rules(lines: Sequence[dict[str, Any]]) -> None:
    shown = Table(title="Rules", title_justify="left")
    for heading in ("rule", "state", "points", "why"):
        shown.add_column(heading)
    for line in lines:
        shown.add_row(
            line["rule"], line["state"], str(line["points"]), escape(line["reason"][:_REASON_LETTERS])
        )
    console.print(shown)


def _show_unavailable(lines: Sequence[dict[str, Any]]) -> None:
    """Say which of the rules that are about this trainer could not judge, and why."""
    count = sum(line["state"] == "ok" for line in lines)
    blind = [line for line in lines if line["state"] == "unavailable" and line["applies"]]
    console.print(f"  {count} rules are well; {len(blind)} cannot judge this run:")
    reasons: dict[str, list[str]] = {}
    for line in blind:
        reasons.setdefault(_PARTS.get(line["part"], line["reason"]), []).append(line["rule"])
    for reason, names in reasons.items():
        console.print(f"    {', '.join(names)}: {escape(reason)}", soft_wrap=True)


def _show_tally(runs: Sequence[Checked]) -> None:
    from rldk.check import tally

    shown = Table(title=f"{len(runs)} runs", title_justify="left")
    for heading, justify in (("rule", "left"), ("judged", "right"), ("fired", "right"), ("worst", "left")):
        shown.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich names a Literal
    shown.add_column("first at (median, of the run)", justify="right")
    for line in tally(runs):
        early = f"{line.median_share:.0%}" if line.fired else ""
        shown.add_row(line.rule, str(line.judged), str(line.fired), line.severity or "", early)
    console.print(shown)


def _document(runs: Sequence[Checked], checkpoints: Sequence[Weighed]) -> dict[str, Any]:
    from rldk.check import tally

    return {
        "runs": [
            {
                "run_id": run.run_id,
                "trainer": run.trainer or None,
                "source": run.source,
                "status": run.status or None,
                "points": run.points,
                "last_step": run.last_step,
                "alerts": [_alert(change) for change in run.changes],
                "health": run.health,
                "problems": list(run.problems),
            }
            for run in runs
        ],
        "checkpoints": [
            {"folder": str(each.folder), "metrics": each.metrics, "analysis": each.facts}
            for each in checkpoints
        ],
        "tally": [line._asdict() for line in tally(runs)],
    }


def _alert(change: Change) -> dict[str, Any]:
    return {
        "id": f"{change.rule.name}@{change.step}",
        "rule": change.rule.name,
        "state": change.state,
        "severity": change.severity,
        "step": change.step,
        "since_step": change.since_step,
        "message": change.message,
        "evidence": redact(dict(change.verdict.evidence)),
    }
