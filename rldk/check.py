"""How would the rules have judged runs that are over, how often, and how early?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rldk.health.monitor import Monitor
from rldk.health.robust import median
from rldk.health.rule import LEVELS, SEVERITIES, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rldk.health.rule import Rule
    from rldk.health.standing import Change
    from rldk.history import History


class Checked(NamedTuple):
    """A run, and what the rules say of it.

    Attributes:
        run_id: The run.
        trainer: Short name of its trainer; empty where nobody knows.
        source: Where it was read.
        status: How it ended: FINISHED, FAILED or KILLED; empty where it has not, or nobody knows.
        points: How many training logs it has.
        last_step: The last step that was logged.
        changes: When a rule began to fire, got worse, or was over, in order.
        health: The state of each rule at the end, and the worst verdict; as the end event tells it.
        problems: What of the source could not be read, a sentence each.
    """

    run_id: str
    trainer: str
    source: str
    status: str
    points: int
    last_step: int
    changes: list[Change]
    health: Mapping[str, Any]
    problems: Sequence[str]

    @property
    def worst(self) -> int:
        """The worst level that an alert reached: 0 for none, 1 to 3 for info to critical."""
        return max((change.level for change in self.changes), default=0)


class Tally(NamedTuple):
    """One rule over several runs.

    Attributes:
        rule: Name of the rule.
        judged: In how many runs it could judge.
        fired: In how many of them it fired.
        severity: The worst that it reached; None where it never fired.
        median_share: How much of a run had passed when it first fired, the median: 0.25 is a quarter.
    """

    rule: str
    judged: int
    fired: int
    severity: Severity | None
    median_share: float


def check(history: History, rules: Iterable[Rule]) -> Checked:
    """Ask the rules at each event of a run, as if they had run along.

    What was judged while the run went on is not looked at: the alerts are those of these rules.
    """
    monitor, changes = Monitor(rules), []
    points, last_step, status = 0, 0, ""
    for event in history.events():
        if event.kind == "metrics" and event.phase == "train":
            points, last_step = points + 1, event.step
        if event.kind in {"run", "end"}:
            status = str(event.model_info.get("status") or "") if event.kind == "end" else ""
        changes += monitor.take(event)
    return Checked(
        history.run_id,
        history.trainer,
        history.source,
        status,
        points,
        last_step,
        changes,
        monitor.summary(),
        history.problems,
    )


def tally(runs: Sequence[Checked]) -> list[Tally]:
    """Count, rule by rule, in which runs it fired and how early; one that never could judge is left out."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    shares: dict[str, list[float]] = {}
    for run in runs:
        for line in run.health["rules"]:
            lines.setdefault(line["rule"], []).append(line)
        for rule, change in _first_alerts(run.changes).items():
            shares.setdefault(rule, []).append(change.step / max(run.last_step, 1))
    return [_tally(rule, told, shares.get(rule, [])) for rule, told in lines.items() if _has_judged(told)]


def _has_judged(lines: Iterable[Mapping[str, Any]]) -> bool:
    return any(line["points"] for line in lines)


def _tally(rule: str, lines: Sequence[Mapping[str, Any]], shares: Sequence[float]) -> Tally:
    reached = [LEVELS[line["severity"]] for line in lines if line["severity"]]
    return Tally(
        rule,
        judged=sum(line["points"] > 0 for line in lines),
        fired=len(shares),
        severity=SEVERITIES.get(max(reached, default=0)),
        median_share=median(shares),
    )


def _first_alerts(changes: Iterable[Change]) -> dict[str, Change]:
    first: dict[str, Change] = {}
    for change in changes:
        if change.level:
            first.setdefault(change.rule.name, change)
    return first
