"""What does a rule say that its user has changed?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rldk.health.rule import Persistence, Rule, Severity, Verdict

if TYPE_CHECKING:
    from rldk.health.window import Window


class Change(NamedTuple):
    """What a user wants otherwise of one of RLDK's rules; None leaves it.

    Attributes:
        enabled: Whether it is asked at all.
        severity: How bad it is, whatever the rule says.
        persistence: How many bad points make an alert.
        cooldown: For how many points after an alert it does not speak again.
        warm_up: How many points it needs.
    """

    enabled: bool | None = None
    severity: Severity | None = None
    persistence: Persistence | None = None
    cooldown: int | None = None
    warm_up: int | None = None

    def then(self, later: Change) -> Change:
        """This change and a later one, which is heard where both want something."""
        pairs = zip(self, later, strict=True)
        return Change._make(mine if its is None else its for mine, its in pairs)


class ChangedRule(Rule):
    """Judges as another rule does, and is heard otherwise.

    Args:
        rule: The rule; it stays as it is.
        change: What is to be otherwise.
    """

    def __init__(self, rule: Rule, change: Change) -> None:
        self._rule = rule
        self._severity = change.severity
        self.name, self.title, self.part = rule.name, rule.title, rule.part
        self.reads, self.looks_at, self.trainers = rule.reads, rule.looks_at, rule.trainers
        self.meaning, self.advice, self.source = rule.meaning, rule.advice, rule.source
        self.persistence = rule.persistence if change.persistence is None else change.persistence
        self.cooldown = rule.cooldown if change.cooldown is None else change.cooldown
        self.warm_up = rule.warm_up if change.warm_up is None else change.warm_up

    def judge(self, window: Window) -> Verdict:
        """Say what the rule says, and how bad its user finds it."""
        verdict = self._rule.judge(window)
        if verdict.severity is None or self._severity is None:
            return verdict
        return verdict._replace(severity=self._severity)

    def notes(self, verdict: Verdict) -> list[str]:
        """Note what the rule notes."""
        return self._rule.notes(verdict)

    def cannot_apply(self, window: Window) -> str:
        """Say what the rule says."""
        return self._rule.cannot_apply(window)
