"""How does a run's description tell of its health: a block of RLDK's, below what the user has written."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rldk.bridge import REPORT
from rldk_mlflow.told import FOLDER, MAX_TAG, NOTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rldk.event import Event

_BEGIN: Final = "<!-- rldk:health -->"
_END: Final = "<!-- /rldk:health -->"
_GAP: Final = "\n\n"
_BLOCK: Final = re.compile(rf"{_BEGIN}(?:(?!{_BEGIN}).)*?{_END}", re.DOTALL)  # a lone beginning is a user's
_BLOCK_AND_GAP: Final = re.compile(rf"(?:{_GAP})?{_BLOCK.pattern}", re.DOTALL)

_SHOWN: Final = {REPORT: "the report", "_post_mortem.md": "the post-mortem"}
"""What is linked to, by how the file's name ends."""

_LONGEST_BLOCK: Final = 4000
_LONGEST_REASON: Final = 500
_TRAINING_VIEW: Final = "?workflowType=machine_learning"
"""Without it MLflow 3.17 opens a link among its pages for agents, where the run is an "evaluation"."""
_FOR_LINKS: Final = 1200  # what is left free for them, until it is known whether the files arrived


def with_health(note: str, end: Event) -> str:
    """Tell of a run's health in its description, in the place of what was told before.

    What others have written there stays; where it leaves no room, nothing is told.

    Args:
        note: The description as it is.
        end: The event that ended the run.
    """
    health = end.model_info.get("health")
    if not isinstance(health, dict):
        return note
    theirs = without_health(note)
    room = min(_LONGEST_BLOCK, MAX_TAG - len(theirs) - len(f"{_GAP}{_BEGIN}\n\n{_END}") - _FOR_LINKS)
    told = _told(health, str(end.model_info.get("stopped_by") or ""), room)
    return _with_block(note, f"{_BEGIN}\n{told}\n{_END}") if told else theirs


def shown(files: Iterable[str]) -> list[str]:
    """Of the names of files those that people read."""
    return [name for name in files if name.endswith(tuple(_SHOWN))]


def with_links(note: str, files: Iterable[str], page: str | None) -> str:
    """Link what is told of a run's health to those of its files that people read.

    Args:
        note: The description as it is; without RLDK's block it stays so.
        files: Names of the files in RLDK's folder of artifacts.
        page: Address of the run's page, where the tracker has one.
    """
    found = _BLOCK.search(note)
    lines = found[0].split("\n") if found else []
    if len(lines) < len(("begin", "headline", "end")):  # there is none, or somebody has edited it
        return note
    begin, headline, *rest = lines
    links = [_link(name, what, page) for name in files for end, what in _SHOWN.items() if name.endswith(end)]
    # In the first line, for MLflow folds a description after a few.
    headline = " · ".join([headline, *(link for link in links if link not in headline)])
    linked = _with_block(note, "\n".join([begin, headline, *rest]))
    return linked if len(linked) <= MAX_TAG else note


def without_health(note: str) -> str:
    """What others have written in a description."""
    return _BLOCK_AND_GAP.sub("", note)


def tags_of_others(tags: Mapping[str, str]) -> set[str]:
    """The names of a run's tags, without the description if all of it is RLDK's."""
    text = tags.get(NOTES, "")
    return set(tags) - ({NOTES} if _BLOCK.search(text) and not without_health(text) else set())


def _with_block(note: str, block: str) -> str:
    if _BLOCK.search(note):
        return _BLOCK.sub(lambda _: block, note, count=1)
    return f"{note}{_GAP}{block}" if note else block


def _link(name: str, what: str, page: str | None) -> str:
    path = f"{FOLDER}/{name}"
    if page is None:
        return f"{what} is the artifact `{path}`"
    # Relative, for the page may have another address for those who look at it than for the training. Of a
    # name that must be quoted MLflow 3.17 opens the artifacts alone.
    there = f"{page.partition('#')[2]}/artifacts/{quote(path, errors='replace')}"
    return f"[Open {what}](#{there}{_TRAINING_VIEW})"


def _told(health: Mapping[str, Any], stopped_by: str, room: int) -> str:
    """The verdict and the rules that had alerts, as many as there is room for; empty where there is none."""
    stop = f", stopped by {_inline(stopped_by)}" if stopped_by else ""
    lines = [f"**RLDK health: {_inline(health.get('verdict'))}**{stop}", ""]
    rules = _spoken(health)
    for place, rule in enumerate(rules):
        line, left = _line(rule), len(rules) - place
        if len("\n".join([*lines, line, _more(left)])) > room:
            lines.append(_more(left))
            break
        lines.append(line)
    text = "\n".join(lines).rstrip()
    return text if len(text) <= room else ""


def _spoken(health: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The rules that had alerts: first those that fire still, and of these the worst."""
    told = health.get("rules")
    rules = [rule for rule in told if isinstance(rule, dict)] if isinstance(told, list | tuple) else []
    spoken = [rule for rule in rules if rule.get("state") == "firing" or rule.get("alerts")]
    order = ("critical", "warning", "info")
    return sorted(spoken, key=lambda r: (r.get("state") != "firing", _place(order, r.get("severity"))))


def _place(order: Sequence[str], severity: object) -> int:
    return order.index(severity) if isinstance(severity, str) and severity in order else len(order)


def _line(rule: Mapping[str, Any]) -> str:
    title, name = _inline(rule.get("title") or rule.get("rule")), _inline(rule.get("rule"))
    first, last = rule.get("first_step"), rule.get("last_step")
    steps = f"step {first}" if first == last else f"steps {first} to {last}"
    is_firing = rule.get("state") == "firing"
    when = f"firing, first at step {first}" if is_firing else f"over, {steps}"
    # What a rule sees is what it sees at the end.
    seen = f"{'' if is_firing else '; now'}: {_inline(rule['reason'])}" if rule.get("reason") else ""
    return f"- **{_inline(rule.get('severity'))}** {title} (`{name}`), {when}{seen}"


def _more(count: int) -> str:
    return f"- … and {count} more"


def _inline(value: object) -> str:
    """A text in one line that no markup, and no end of the block, can hide in."""
    text = " ".join(str(value).split())
    cut = text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 2]} …"
    return html.escape(cut.encode("utf-8", "replace").decode(), quote=False)
