"""`rldk explain`: an alert's numbers again, or what a rule is about."""

from __future__ import annotations

import difflib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli import completing, options
from rldk.cli.app import app, console, notes, reading_bar
from rldk.cli.options import Adapter, FieldMap, Json, Rules, Runs
from rldk.cli.output import write_document
from rldk.errors import SettingError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rldk.health.rule import Rule
    from rldk.report.story import Episode, Series, Story

_ID = re.compile(r"(.*)#([\w./-]+@-?[0-9]{1,19})", re.DOTALL)
_NAME = re.compile(r"\w+")
_AROUND = 10
_MOST_METRICS = 6
_NEAR = 5
_NAMES_SHOWN = 20


@app.command()
def explain(
    alert: Annotated[
        str,
        typer.Argument(
            metavar="ALERT",
            help="SOURCE#RULE@STEP, such as rldk/abc_events.jsonl#kl_drift@120, where SOURCE is a run as "
            "`rldk check` takes it, or its _alerts.json; SOURCE alone for all its alerts; or a rule's name.",
            autocompletion=completing.rules,
        ),
    ],
    *,
    rules: Rules = None,
    runs: Runs = None,
    adapter: Adapter = None,
    field_map: FieldMap = None,
    as_json: Json = False,
) -> None:
    """Show what a rule saw when it fired: its numbers, the steps around, what to do, and its source."""
    known = _known(rules or [])
    if alert in known:
        rule = known[alert]
        write_document({"rule": {"name": rule.name, **_facts(rule)}}) if as_json else _show_rule(rule)
        return
    found = _ID.fullmatch(alert)
    source, wanted = (found[1], found[2]) if found else (alert, None)
    if found is None and _NAME.fullmatch(alert) and not Path(alert).exists():
        raise _unknown(alert, known)
    asked = {"runs": runs, "adapter_hint": adapter, "field_map": options.field_map(field_map)}
    story = _story(source, list(known.values()), asked)
    episodes = [each for each in story.episodes if wanted is None or _is(each, wanted)]
    if wanted is not None and not episodes:
        there = ", ".join(each.id for each in story.episodes) or "none"
        raise SettingError("ALERT", wanted, f"an alert of run {story.run_id}: {there}")
    if as_json:
        write_document({"run_id": story.run_id, "alerts": [_document(each, story) for each in episodes]})
        return
    if not episodes:
        console.print(f"run {story.run_id} has no alert", markup=False)
    for episode in episodes:
        _show(episode, story, known.get(episode.rule))


def _known(files: Sequence[Path]) -> Mapping[str, Rule]:
    from rldk.health.rule_files import rules_with

    return {rule.name: rule for rule in rules_with(files)}


def _unknown(name: str, known: Iterable[str]) -> SourceError:
    """The error of a word that may be meant as a rule's name, with those that are near it."""
    near = ", ".join(difflib.get_close_matches(name, known, _NEAR))
    remedy = f"name a rule near it: {near}" if near else "docs/health.md lists the rules"
    reason = "there is no such file or folder, and no rule is called so"
    return SourceError(name, reason, f"check the path, or {remedy}" if near else f"check the path; {remedy}")


def _story(source: str, rules: Sequence[Rule], asked: Mapping[str, Any]) -> Story:
    from rldk.history import histories
    from rldk.report.judging import is_judged, judged
    from rldk.report.story import Story

    with reading_bar() as watch:
        found = list(histories(_run_of(source), watch=watch, **asked))
    if len(found) != 1:
        names = ", ".join(each.run_id for each in found[:_NAMES_SHOWN])
        raise SourceError(source, f"it holds {len(found)} runs ({names})", "choose one of them with --runs")
    (history,) = found
    notes(history.problems)
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


def _document(episode: Episode, story: Story) -> dict[str, Any]:
    from rldk.report.documents import alerts_file

    (told,) = [alert for alert in alerts_file(story).alerts if alert.id == episode.id][:1]
    series = _read_by(episode, story)
    values = [dict(zip(each.steps.tolist(), each.values.tolist(), strict=True)) for each in series]
    around = [
        {
            "step": step,
            **{
                each.name: column[step] for each, column in zip(series, values, strict=True) if step in column
            },
        }
        for step in _around(episode, values)
    ]
    return {**msgspec.to_builtins(told), "since_step": episode.since_step, "points": around}


def _read_by(episode: Episode, story: Story) -> list[Series]:
    """What the rule reads, as far as it was measured."""
    return [each for name in episode.metrics if len((each := story.series(name)).steps)][:_MOST_METRICS]


def _around(episode: Episode, values: Iterable[Mapping[int, float]]) -> list[int]:
    """The steps before and behind the one at which the rule began to fire."""
    steps = sorted({step for column in values for step in column})
    before = [step for step in steps if step < episode.since_step][-_AROUND:]
    return before + [step for step in steps if step >= episode.since_step][:_AROUND]


def _show_steps(episode: Episode, story: Story) -> None:
    series = _read_by(episode, story)
    if not series:
        return
    console.print(f"  The points around step {episode.since_step}:")
    shown = Table()
    shown.add_column("step", justify="right")
    for each in series:
        shown.add_column(escape(f"{each.name} {each.unit}".removesuffix(" 1").strip()), justify="right")
    values = [dict(zip(each.steps.tolist(), each.values.tolist(), strict=True)) for each in series]
    for step in _around(episode, values):
        mark = "bold" if step == episode.first.step else None
        shown.add_row(str(step), *(_number(column.get(step, "")) for column in values), style=mark)
    console.print(shown)


def _show_rule(rule: Rule) -> None:
    console.print(f"[bold]{escape(rule.name)}[/bold]  {escape(rule.title)}")
    for what, told in _facts(rule).items():
        if told:
            console.print(f"  {what}: {escape(told)}", soft_wrap=True)


def _facts(rule: Rule) -> dict[str, str]:
    return {
        "what": rule.meaning,
        "rule": _how(rule),
        "reads": ", ".join(f"{name} ({unit})" if unit else name for name, unit in rule.reads.items()),
        "of": ", ".join(rule.trainers) or "any trainer",
        "lasting": f"{rule.persistence.hits} of {rule.persistence.points} points",
        "advice": rule.advice,
        "source": rule.source,
    }


def _how(rule: Rule) -> str:
    """How the rule judges, in its own words."""
    return " ".join((inspect.getdoc(type(rule).judge) or "").split())


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
