"""How is what the rules said shown: as the measured part of docs/health.md."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.health.judge import Judged
    from benchmarks.health.scenario import Scenario
    from rldk.health.standing import Change

BEGIN: Final = "<!-- measured: begin; written by `python -m benchmarks.health --write` -->"
END: Final = "<!-- measured: end -->"
_SEVERITIES: Final = ("info", "warning", "critical")
_BAD: Final = frozenset({"warning", "critical"})


class Runs(NamedTuple):
    """All that was judged.

    Attributes:
        healthy: Healthy runs by where they are from.
        faulty: For each fault, a run for each seed.
    """

    healthy: Mapping[str, Sequence[Judged]]
    faulty: Sequence[tuple[Scenario, Sequence[Judged]]]


def section(runs: Runs, machine: str) -> str:
    """The whole measured part, in Markdown."""
    return "\n\n".join(
        (
            machine,
            "### False alarms: healthy runs",
            healthy_table(runs.healthy),
            "### False alarms by rule",
            rule_table([run for each in runs.healthy.values() for run in each]),
            "### Faults put in for real",
            fault_table(runs.faulty),
        )
    )


def put_into(page: str, part: str) -> str:
    """Put the measured part into a page, between its marks.

    Raises:
        ValueError: The page has no such marks.
    """
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return marked.sub(lambda _: f"{BEGIN}\n\n{part}\n\n{END}", page)


def healthy_table(healthy: Mapping[str, Sequence[Judged]]) -> str:
    """For each source of healthy runs: how many got which alert, and which."""
    rows = []
    for where, runs in healthy.items():
        counts = [str(sum(bool(run.began(severity)) for run in runs)) for severity in _SEVERITIES]
        most = max((sum(map(len, map(run.began, _BAD))) for run in runs), default=0)
        said = Counter(f"`{rule}`: {how}" for run in runs for how in _SEVERITIES for rule in run.began(how))
        told = ", ".join(f"{each} ({count})" for each, count in sorted(said.items())) or "-"
        rows.append([where, str(len(runs)), *counts, str(most), told])
    with_ = (f"with {severity}" for severity in _SEVERITIES)
    return _table(("healthy runs", "runs", *with_, "most alerts in one", "which (in so many runs)"), rows)


def rule_table(runs: Sequence[Judged]) -> str:
    """For each rule: in how many healthy runs it could judge, and in how many it fired."""
    rows = []
    for rule in (line["rule"] for line in runs[0].health["rules"]) if runs else ():
        able = sum(_line(run, rule)["points"] > 0 for run in runs)
        fired = [sum(rule in run.began(severity) for run in runs) for severity in _SEVERITIES]
        rate = f"{sum(rule in run.began(s) for run in runs for s in _BAD) / able:.1%}" if able else "-"
        rows.append([f"`{rule}`", f"{able} of {len(runs)}", *map(str, fired), rate])
    return _table(("rule", "could judge", *_SEVERITIES, "false-alarm rate"), rows)


def fault_table(faulty: Sequence[tuple[Scenario, Sequence[Judged]]]) -> str:
    """For each fault: whether and by which rule it was named, and how many steps later."""
    rows = []
    for scenario, runs in faulty:
        found = [named(scenario, run) for run in runs]
        hits = [change for change in found if change is not None]
        rules = Counter(f"`{change.rule.name}` ({change.severity})" for change in hits)
        others = Counter(
            rule for run in runs for s in _BAD for rule in run.began(s) if rule not in scenario.rules
        )
        rows.append(
            [
                f"{scenario.trainer}: {scenario.story}",
                _share(len(hits), len(runs)),
                ", ".join(rule for rule, _ in rules.most_common()) or "-",
                f"{median(change.step - scenario.at for change in hits):.0f}" if hits else "-",
                ", ".join(f"`{rule}`" for rule in sorted(others)) or "-",
            ]
        )
    return _table(("fault", "named", "first by", "steps after it", "other alerts"), rows)


def named(scenario: Scenario, run: Judged) -> Change | None:
    """The first alert, from the fault on, by a rule that is right; one that only informs comes last."""
    right = (
        each
        for each in run.alerts
        if each.state == "firing" and each.rule.name in scenario.rules and each.step >= scenario.at
    )
    return min(right, key=lambda each: (each.severity not in _BAD, each.step), default=None)


def _share(hits: int, runs: int) -> str:
    return f"{hits} of {runs}" if hits == runs else f"**{hits} of {runs}**"


def _line(run: Judged, rule: str) -> Mapping[str, int]:
    return next(line for line in run.health["rules"] if line["rule"] == rule)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
