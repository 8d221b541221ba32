"""`rldk explain`: an alert's numbers again, or what a rule is about."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import app, console, fail
from rldk.errors import RLDKError, SettingError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rldk.health.rule import Rule
    from rldk.report.story import Episode, Story

_ID = re.compile(r"(.*)#([\w./-]+@-?[0-9]{1,19})", re.DOTALL)
_AROUND = 10
_MOST_METRICS = 6


@app.command()
def explain(
    alert: Annotated[
        str,
        typer.Argument(
            metavar="ALERT",
            help="SOURCE#RULE@STEP, such as rldk/abc_events.jsonl#kl_drift@120, where SOURCE is a run as "
            "`rldk check` takes it, or its _alerts.json; SOURCE alone for all its alerts; or a rule's name.",
        ),
    ],
    *,
    rules: Annotated[
        list[Path] | None, typer.Option(help="A TOML file of rules, for a run that is judged only now.")
    ] = None,
) -> None:
    """Show what a rule saw when it fired: its numbers, the steps around, what to do, and where that is from.

    Exit code 2 if there is no such alert, 3 if the source cannot be read.
    """
    try:
        known = _known(rules or [])
        if alert in known:
            _show_rule(known[alert])
            return
        found = _ID.fullmatch(alert)
        source, wanted = (found[1], found[2]) if found else (alert, None)
        story = _story(source, list(known.values()))
        episodes = [each for each in story.episodes if wanted is None or _is(each, wanted)]
        if wanted is not None and not episodes:
            there = ", ".join(each.id for each in story.episodes) or "none"
            raise SettingError("ALERT", wanted, f"an alert of run {story.run_id}: {there}")
    except RLDKError as error:
        fail(error)
    if not episodes:
        console.print(f"run {story.run_id} has no alert", markup=False)
    for episode in episodes:
        _show(episode, story, known.get(episode.rule))


def _known(files: Sequence[Path]) -> Mapping[str, Rule]:
    from rldk.health.rule_files import rules_with

    return {rule.name: rule for rule in rules_with(files)}


def _story(source: str, rules: Sequence[Rule]) -> Story:
    from rldk.history import histories
    from rldk.report.judging import is_judged, judged
    from rldk.report.story import Story

    found = list(histories(_run_of(source)))
    if len(found) != 1:
        names = ", ".join(each.run_id for each in found)
        raise SourceError(source, f"it holds {len(found)} runs ({names})", "name the source of one of them")
    (history,) = found
    if is_judged(history.events()):
        return Story.of(history.events(), history.run_id)
    return judged(history.events(), rules, history.run_id).story


def _run_of(source: str) -> str:
    """The journal beside a file of alerts; any other source as it is."""
    from rldk.journal import SUFFIX
    from rldk.report.outputs import ALERTS

    if not source.endswith(ALERTS):
        return source
    journal = source.removesuffix(ALERTS) + SUFFIX
    if not Path(journal).is_file():
        raise SourceError(
            source, f"the journal {journal} is not beside it", "name the run's journal, or its tracker"
        )
    return journal


def _is(episode: Episode, wanted: str) -> bool:
    rule, _, step = wanted.rpartition("@")
    return episode.rule == rule and int(step) in {episode.first.step, episode.worst.step}


def _show(episode: Episode, story: Story, rule: Rule | None) -> None:
    told = episode.told
    until = "" if episode.until_step is None else f", over at step {episode.until_step}"
    console.print(f"[bold]{escape(episode.id)}[/bold]  {escape(episode.severity)}{until}", soft_wrap=True)
    console.print(f"  {escape(episode.message)}", soft_wrap=True)
    evidence = told.get("evidence")
    numbers = Table(title="The numbers", title_justify="left", show_header=False)
    for name, value in evidence.items() if isinstance(evidence, dict) else ():
        numbers.add_row(escape(str(name)), escape(_number(value)))
    if numbers.row_count:
        console.print(numbers)
    if rule is not None:
        console.print(f"  rule: {escape(_how(rule))}", soft_wrap=True)
    _show_steps(episode, story)
    for what in ("advice", "source"):
        if told.get(what):
            console.print(f"  {what}: {escape(str(told[what]))}", soft_wrap=True)


def _show_steps(episode: Episode, story: Story) -> None:
    series = [each for name in episode.metrics if len((each := story.series(name)).steps)][:_MOST_METRICS]
    if not series:
        return
    console.print(f"  The points around step {episode.since_step}:")
    shown = Table()
    shown.add_column("step", justify="right")
    for each in series:
        shown.add_column(escape(f"{each.name} {each.unit}".removesuffix(" 1").strip()), justify="right")
    values = [dict(zip(each.steps.tolist(), each.values.tolist(), strict=True)) for each in series]
    steps = sorted({step for column in values for step in column})
    before = [step for step in steps if step < episode.since_step][-_AROUND:]
    after = [step for step in steps if step >= episode.since_step][:_AROUND]
    for step in before + after:
        mark = "bold" if step == episode.first.step else None
        shown.add_row(str(step), *(_number(column.get(step, "")) for column in values), style=mark)
    console.print(shown)


def _show_rule(rule: Rule) -> None:
    console.print(f"[bold]{escape(rule.name)}[/bold]  {escape(rule.title)}")
    facts: dict[str, Any] = {
        "what": rule.meaning,
        "rule": _how(rule),
        "reads": ", ".join(f"{name} ({unit})" if unit else name for name, unit in rule.reads.items()),
        "of": ", ".join(rule.trainers) or "any trainer",
        "lasting": f"{rule.persistence.hits} of {rule.persistence.points} points",
        "advice": rule.advice,
        "source": rule.source,
    }
    for what, told in facts.items():
        if told:
            console.print(f"  {what}: {escape(str(told))}", soft_wrap=True)


def _how(rule: Rule) -> str:
    """How the rule judges, in its own words."""
    return " ".join((inspect.getdoc(type(rule).judge) or "").split())


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
