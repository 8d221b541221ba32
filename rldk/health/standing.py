"""How a rule stands: what it said lately, what has been told of it, and what a new verdict changes."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from rldk.health.rule import LEVELS, SEVERITIES, Verdict
from rldk.health.window import is_broken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.health.rule import Rule, Severity, State


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


class _Judged(NamedTuple):
    """How bad a rule found a point: 0 for well, else 1 to 3."""

    step: int
    level: int


class _Told(NamedTuple):
    """An alert: the first bad step, and how bad it was."""

    since_step: int
    level: int


class Standing:
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
        had_judged = bool(self._judged)
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
        if is_superseded or (had_judged and not self._judged):
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
