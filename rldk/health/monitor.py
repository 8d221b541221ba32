"""Which rules fire now: they are asked at each event, and heard once it lasts."""

from __future__ import annotations

import logging
import traceback
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.health.absence import why_absent
from rldk.health.rule import LEVELS, SEVERITIES, Verdict, checked, unavailable
from rldk.health.window import CHECKPOINT, RESOURCE, Window, is_broken
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rldk.event import Event
    from rldk.health.rule import Rule, Severity, State

_logger = logger(__name__)

_WORST: Final = {0: "ok", 1: "ok", 2: "warning", 3: "critical"}
"""What a run's verdict is, by the worst level that a rule reached: to inform is no judgement."""


_NEVER: Final = {
    "eval": "there was no evaluation",
    RESOURCE: "no resources were sampled",
    CHECKPOINT: "no checkpoint was analysed",
}


class Change(NamedTuple):
    """A rule begins to fire, gets worse, or is over.

    Attributes:
        rule: The rule.
        state: `firing`, or `ok` where it is over.
        severity: How bad it is, or was.
        step: The step at which it was seen.
        since_step: The first bad step.
        verdict: What the rule said; where it is over, what it had said last.
    """

    rule: Rule
    state: State
    severity: Severity
    step: int
    since_step: int
    verdict: Verdict

    @property
    def message(self) -> str:
        """One sentence for people, without its stop."""
        if self.state == "firing":
            return f"{self.rule.title}: {self.verdict.reason}"
        if self.since_step > self.step:
            return (
                f"{self.rule.title}: superseded, for training has gone back to before step {self.since_step}"
            )
        was = f"it was {self.severity} since step {self.since_step}"
        return f"{self.rule.title}: over since step {self.step}; {was}"

    @property
    def level(self) -> int:
        """0 where it is over, else 1 to 3 for info to critical."""
        return LEVELS[self.severity] if self.state == "firing" else 0


class Monitor:
    """Asks the rules at each event of a run, in order; to the same events it says the same.

    Args:
        rules: The rules, each of another name.

    Attributes:
        errors: How often a rule raised an error.
        notes: What the newest event is to be noted with.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._standings = {rule.name: _Standing(rule) for rule in rules}
        self._by_part: dict[str, list[_Standing]] = {}
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

    def _ask(self, standing: _Standing) -> Change | None:
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

    def _judged(self, standing: _Standing) -> Verdict:
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

    def _line(self, standing: _Standing) -> dict[str, Any]:
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


class _Judged(NamedTuple):
    """How bad a rule found a point: 0 for well, else 1 to 3."""

    step: int
    level: int


class _Told(NamedTuple):
    """An alert: the first bad step, and how bad it was."""

    since_step: int
    level: int


class _Standing:
    """How a rule stands: what it said lately, and what has been told of it."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.verdict = Verdict("unavailable")
        self.level = self.worst = 0
        self.last_step: int | None = None
        self._judged = array("q")
        self._alerts: list[_Told] = []
        self._lately: deque[_Judged] = deque(maxlen=rule.persistence.points)
        self._told = 0
        self._last_told = 0
        self._is_told_anew = False
        self._told_at = -rule.cooldown
        self._since = 0
        self._bad = self.verdict
        self.is_warm = False
        self._reads = tuple(rule.reads)
        self._prefixes = tuple(name[:-1] for name in rule.reads if name.endswith("*"))

    @property
    def state(self) -> State:
        """`firing`, `ok`, or `unavailable` where it cannot judge."""
        return "firing" if self.level else self.verdict.state if self.verdict.state != "firing" else "ok"

    def is_asked(self, current: Mapping[str, int | float]) -> bool:
        """Whether an event holds anything that the rule reads, and none of that is broken."""
        is_there = not self._reads
        for name in self._reads:
            value = current.get(name)
            if value is not None:
                if is_broken(value):
                    return False
                is_there = True
        return is_there or (bool(self._prefixes) and any(name.startswith(self._prefixes) for name in current))

    @property
    def points(self) -> int:
        """How many points it has judged."""
        return len(self._judged)

    @property
    def alerts(self) -> int:
        """How often it has spoken of something bad."""
        return len(self._alerts)

    @property
    def first_step(self) -> int | None:
        """The first bad step of which it has spoken; None where it never has."""
        return self._alerts[0].since_step if self._alerts else None

    def rewind(self, step: int) -> None:
        """Forget what is superseded: training goes on from a step, and what was bad beyond it is not so now.

        What was critical before it is told once more: the run goes on with it, and somebody has to know.
        """
        while self._judged and self._judged[-1] > step:
            self._judged.pop()
        while self._lately and self._lately[-1].step > step:
            self._lately.pop()
        self._alerts = [told for told in self._alerts if told.since_step <= step]
        self.worst = max((told.level for told in self._alerts), default=0)
        self._told_at = min(self._told_at, self.points)
        if self.last_step is not None and self.last_step > step:
            self.last_step = step if self._alerts else None
        is_superseded = bool(self._told) and self._since > step
        if is_superseded:
            self.level = 0
            self.verdict = Verdict("unavailable", "training has gone back to before what it judged")
        self._is_told_anew = is_superseded or self._told == LEVELS["critical"]

    def take(self, verdict: Verdict, step: int) -> Change | None:
        """Take over what the rule says of a point, and tell whether that changes anything."""
        if verdict.state == "unavailable":
            self.verdict = verdict if verdict.reason else self.verdict
            return None
        self.verdict = verdict
        self._judged.append(step)
        level = 0 if verdict.severity is None else LEVELS[verdict.severity]
        if level:
            if not self.level and not any(judged.level for judged in self._lately):
                self._since = step
            self.last_step, self._bad = step, verdict
        self._lately.append(_Judged(step, level))
        self.level = self._lasting()
        self.worst = max(self.worst, self.level)
        return self._spoken(step)

    def _lasting(self) -> int:
        """The worst level that enough of the last points reach; what fires goes on until none does."""
        hits = self.rule.persistence.hits
        levels = sorted((judged.level for judged in self._lately), reverse=True)
        lasting = levels[hits - 1] if len(levels) >= hits else 0
        return lasting or (min(self.level, levels[0]) if self.level else 0)

    def _spoken(self, step: int) -> Change | None:
        if self._is_told_anew:
            self._is_told_anew = False
            self._told = self._last_told = 0 if self.level else self._told
        if self.level > self._told:
            is_quiet = self.points - self._told_at < self.rule.cooldown and self.level <= self._last_told
            return None if is_quiet else self._speak("firing", self.level, step)
        if self._told and not self.level:
            return self._speak("ok", self._told, step)
        return None

    def _speak(self, state: State, level: int, step: int) -> Change:
        if state == "firing":
            self._alerts.append(_Told(self._since, level))
            self._told_at = self.points
            self._last_told = level
        self._told = level if state == "firing" else 0
        return Change(self.rule, state, SEVERITIES[level], step, self._since, self._bad)
