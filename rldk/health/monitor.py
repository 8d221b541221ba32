"""Which rules fire now: they are asked at each event, and heard once it lasts."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any, Final

from rldk.health.absence import why_absent
from rldk.health.rule import SEVERITIES, Verdict, checked, unavailable
from rldk.health.standing import Standing
from rldk.health.window import CHECKPOINT, RESOURCE, Window
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rldk.event import Event
    from rldk.health.rule import Rule
    from rldk.health.standing import Change

_logger = logger(__name__)

_WORST: Final = {0: "ok", 1: "ok", 2: "warning", 3: "critical"}
"""What a run's verdict is, by the worst level that a rule reached: to inform is no judgement."""


_NEVER: Final = {
    "eval": "there was no evaluation",
    RESOURCE: "no resources were sampled",
    CHECKPOINT: "no checkpoint was analysed",
}


class Monitor:
    """Asks the rules at each event of a run, in order; to the same events it says the same.

    Args:
        rules: The rules, each of another name.

    Attributes:
        errors: How often a rule raised an error.
        notes: What the newest event is to be noted with.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._standings = {rule.name: Standing(rule) for rule in rules}
        self._by_part: dict[str, list[Standing]] = {}
        self._window = Window(_kept(standing.rule for standing in self._standings.values()))
        self.errors = 0
        self.notes: list[str] = []

    def take(self, event: Event) -> list[Change]:
        """Take over an event, and tell what it changes."""
        self.notes = []
        if event.kind == "run":
            self._begin(event)
            return []
        part = _part(event)
        if part is None:
            return []
        self._window.add(part, event)
        if part not in self._by_part:
            self._by_part[part] = [
                standing for standing in self._standings.values() if self._is_about(standing.rule, part)
            ]
        asked = (each for each in self._by_part[part] if each.is_asked(self._window.current))
        return [change for standing in asked if (change := self._ask(standing)) is not None]

    def recall(self, event: Event) -> None:
        """Take over what was measured in the run that this one continues; what it came to was told there."""
        part = _part(event)
        if event.kind == "run":
            self._window.begin(event)
        elif part is not None:
            self._window.add(part, event)

    def _is_about(self, rule: Rule, part: str) -> bool:
        return rule.part == part and (not rule.trainers or self._window.trainer in rule.trainers)

    def _begin(self, event: Event) -> None:
        self._window.begin(event)
        self._by_part.clear()  # another trainer, other rules
        for standing in self._standings.values():
            standing.is_warm = False
        if not event.model_info.get("outside_training"):
            for standing in self._standings.values():
                standing.rewind(event.step)

    def _ask(self, standing: Standing) -> Change | None:
        rule, window = standing.rule, self._window
        try:
            verdict = self._judged(standing)
            notes = [] if verdict.state == "unavailable" else [str(note) for note in rule.notes(verdict)]
        except Exception as error:  # noqa: BLE001  # a rule of the user's, in the midst of their training
            verdict, notes = self._failed(rule, error), []
        change = standing.take(verdict, window.step)
        if not notes and change is not None and change.state == "firing":
            notes = [change.message]
        self.notes += notes
        return change

    def _judged(self, standing: Standing) -> Verdict:
        rule = standing.rule
        reason = self._why_it_cannot_apply(rule) if standing.is_warm else self._why_not(rule)
        standing.is_warm = standing.is_warm or not reason  # it stays so as long as the run goes on
        return unavailable(reason) if reason else checked(rule.judge(self._window))

    def _failed(self, rule: Rule, error: Exception) -> Verdict:
        self.errors += 1
        said = f"{type(error).__name__}: {error}"
        level = logging.ERROR if self.errors == 1 else logging.DEBUG
        trace = "".join(traceback.format_exception(error))
        _logger.log(level, "the health rule %s failed: %s\n%s", rule.name, said, trace)
        return unavailable(f"the rule failed ({said})")

    def _why_not(self, rule: Rule) -> str:
        """Why a rule cannot be asked now; empty where it can."""
        window = self._window
        if rule.trainers and window.trainer not in rule.trainers:
            whose = ", ".join(rule.trainers)
            return f"it is about {whose}, and this trainer is {window.trainer or 'not known'}"
        if reason := self._why_it_cannot_apply(rule):
            return reason
        for name, unit in rule.reads.items():
            if name.endswith("*"):
                continue
            if not window.has_logged(name, rule.part):
                return why_absent(name, rule.part, window)
            if unit and (there := window.unit(name)) and there != unit:
                return f"{name} is in {there} here, and the rule is made for {unit}"
            count = len(window.series(name, rule.part))
            if count < rule.warm_up:
                return f"{name} has {count} finite points so far, and the rule needs {rule.warm_up}"
        return ""

    def _why_it_cannot_apply(self, rule: Rule) -> str:
        try:
            return str(rule.cannot_apply(self._window))
        except Exception as error:  # noqa: BLE001  # as in `_ask`
            return self._failed(rule, error).reason

    def knows(self, name: str) -> bool:
        """Whether the newest event holds a metric of this name."""
        return name in self._window.current

    def points_of(self, rule: str) -> int:
        """How many points the rule of this name has judged."""
        return self._standings[rule].points

    def why_it_cannot_apply(self, rule: str) -> str:
        """Why the rule has nothing to judge in this run; empty where it has."""
        return self._why_it_cannot_apply(self._standings[rule].rule)

    def why_unavailable(self, rule: str) -> str:
        """Why a rule that has judged nothing could not."""
        standing = self._standings[rule]
        return self._why_not(standing.rule) or standing.verdict.reason or _never(standing.rule)

    def weakness(self, rule: str) -> str:
        """Why the rule sees little in a run with these arguments; empty where it sees well."""
        return self._standings[rule].rule.weakness(self._window)

    @property
    def verdict(self) -> str:
        """`ok`, `warning` or `critical` as of now; `unknown` as long as no rule could judge anything."""
        return self._verdict(standing.level for standing in self._standings.values())

    @property
    def firing(self) -> list[str]:
        """The rules that fire now, the worst first."""
        bad = [standing for standing in self._standings.values() if standing.level]
        return [standing.rule.name for standing in sorted(bad, key=lambda standing: -standing.level)]

    def summary(self) -> dict[str, Any]:
        """Tell the state of each rule: what the end event and the reports hold as `health`."""
        return {
            "verdict": self._verdict(standing.worst for standing in self._standings.values()),
            "firing": self.firing,
            "rules": [self._line(standing) for standing in self._standings.values()],
        }

    def _verdict(self, levels: Iterable[int]) -> str:
        if not any(standing.points for standing in self._standings.values()):
            return "unknown"
        return _WORST[max(levels, default=0)]

    def _line(self, standing: Standing) -> dict[str, Any]:
        rule = standing.rule
        state, reason = standing.state, standing.verdict.reason
        if state == "unavailable":
            reason = self._why_not(rule) or reason or _never(rule)
        return {
            "rule": rule.name,
            "title": rule.title,
            "state": state,
            "severity": SEVERITIES.get(standing.worst),
            "reason": reason,
            "advice": rule.advice,
            "source": rule.source,
            "metrics": list(rule.reads),
            "part": rule.part,
            "applies": not rule.trainers or self._window.trainer in rule.trainers,
            "alerts": standing.alerts,
            "first_step": standing.first_step,
            "last_step": standing.last_step,
            "points": standing.points,
        }


def _never(rule: Rule) -> str:
    return _NEVER.get(rule.part, "nothing was logged so far")


def _part(event: Event) -> str | None:
    """To which part of a run's rules an event belongs; None for one that measures nothing of this process."""
    if event.kind not in {"metrics", RESOURCE, CHECKPOINT} or event.model_info.get("rank"):
        return None
    return event.phase if event.kind == "metrics" else event.kind


def facts(change: Change, monitor: Monitor) -> dict[str, Any]:
    """What an alert event tells in `model_info["alert"]`."""
    rule = change.rule
    return {
        "rule": rule.name,
        "title": rule.title,
        "state": change.state,
        "severity": change.severity,
        "message": change.message,
        "evidence": dict(change.verdict.evidence),
        "metrics": list(rule.reads) or [name for name in change.verdict.evidence if monitor.knows(name)],
        "since_step": change.since_step,
        "advice": rule.advice,
        "source": rule.source,
        "verdict": monitor.verdict,
        "firing": monitor.firing,
    }


def _kept(rules: Iterable[Rule]) -> Mapping[str, set[str]]:
    kept: dict[str, set[str]] = {}
    for rule in rules:
        kept.setdefault(rule.part, set()).update(rule.reads)
        for name in rule.looks_at:  # `eval:loss` is the part eval's
            part, _, metric = name.rpartition(":")
            kept.setdefault(part or rule.part, set()).add(metric)
    return kept
