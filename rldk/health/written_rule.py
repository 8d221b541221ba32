"""What does a rule say that is written as an expression?"""

from __future__ import annotations

import re
import string
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.errors import RuleError
from rldk.event import as_float
from rldk.health.absence import why_absent
from rldk.health.expressions import metric_named
from rldk.health.operands import NoValueError
from rldk.health.rule import Rule, Verdict, unavailable
from rldk.health.window import SECONDS_PER_STEP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.health.expressions import Condition
    from rldk.health.operands import Metric
    from rldk.health.rule import Evidence, Severity
    from rldk.health.window import Window

_FIELD: Final = re.compile(r"[A-Za-z_][\w/-]*")
_FORMAT: Final = re.compile(r"\+?,?(?:\.[0-9]{1,2})?[eEfFgG%]?")
_USUAL_FORMAT: Final = ".4g"
_LONGEST: Final = 500
_OPERANDS_TOLD: Final = 8


class Message(NamedTuple):
    """A sentence with the newest values of metrics in it.

    Attributes:
        pieces: Text, and the metric behind it with the format of its number; None behind the last.
    """

    pieces: tuple[tuple[str, Metric | None, str], ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that it tells."""
        return tuple(metric for _, metric, _ in self.pieces if metric is not None)

    def told(self, window: Window) -> str:
        """The sentence at the newest point."""
        return "".join(
            text + ("" if metric is None else _shown(metric, form, window))
            for text, metric, form in self.pieces
        )


def message(text: str, part: str, where: str) -> Message:
    """Read a sentence: `{metric}` and `{metric:.3g}` stand for numbers, and nothing else stands in braces.

    Raises:
        RuleError: Something else does.
    """
    if len(text) > _LONGEST:
        raise RuleError(where, f"a message has at most {_LONGEST} characters, this one has {len(text)}")
    try:
        pieces = [
            _piece(before, field, form or "", conversion, part)
            for before, field, form, conversion in string.Formatter().parse(text)
        ]
    except ValueError as error:
        allowed = "allowed are {metric} and {metric:.3g}; write {{ and }} for braces"
        raise RuleError(where, f"{text!r} cannot be used ({error}); {allowed}") from None
    return Message(tuple(pieces))


def _piece(
    before: str, field: str | None, form: str, conversion: str | None, part: str
) -> tuple[str, Metric | None, str]:
    if field is None:
        return before, None, ""
    if not _FIELD.fullmatch(field):
        raise ValueError(f"{field!r} is no name of a metric")
    if conversion is not None or not _FORMAT.fullmatch(form):
        raise ValueError(f"{field} is a number, and this is no simple format of one")
    return before, metric_named(field, part), form or _USUAL_FORMAT


def _shown(metric: Metric, form: str, window: Window) -> str:
    series = window.series(metric.name, metric.part)
    if metric.is_own and metric.name in window.current:
        return format(as_float(window.current[metric.name]), form)
    return format(series.latest, form) if len(series) else "(not logged)"


class WrittenRule(Rule):
    """Fires where a condition holds.

    The metrics whose values it needs are what it `reads`. A metric that `is_nan` or `missing` asks
    for may be broken or absent, and one of another part of the run comes when it comes: those it looks at.

    Args:
        name: Its name.
        condition: When it fires.
        severity: How bad that is.
        message: What it says then; None for the condition and its operands.
        units: The unit that each metric's numbers are meant in, where there is one, by name as written.
    """

    def __init__(
        self,
        name: str,
        condition: Condition,
        severity: Severity,
        message: Message | None,
        units: Mapping[str, str],
    ) -> None:
        self.name = name
        self._condition = condition
        self._severity = severity
        self._message = message
        reads = [metric for metric, uses in condition.uses.items() if uses == {"value"} and _is_read(metric)]
        self._looked_at = {metric: uses for metric, uses in condition.uses.items() if metric not in reads}
        told = () if message is None else message.metrics
        looks_at = dict.fromkeys([*self._looked_at, *(metric for metric in told if metric not in reads)])
        self._units = units
        self.reads = MappingProxyType({metric.name: units.get(metric.name, "") for metric in reads})
        self.looks_at = tuple(f"{metric.part}:{metric.name}" for metric in looks_at)

    def cannot_apply(self, window: Window) -> str:
        """Say of what it looks at what the monitor says of what a rule reads."""
        return next((why for metric in self._looked_at if (why := self._why_not(metric, window))), "")

    def _why_not(self, metric: Metric, window: Window) -> str:
        uses = self._looked_at[metric]
        if not window.has_logged(metric.name, metric.part):
            return "" if "missing" in uses else why_absent(metric.name, metric.part, window)
        if "value" not in uses:
            return ""
        unit, there = self._units.get(metric.shown, ""), window.unit(metric.name)
        if unit and there and unit != there:
            return f"{metric.shown} is in {there} here, and the rule is made for {unit}"
        count = len(window.series(metric.name, metric.part))
        if count < self.warm_up and "is_nan" not in uses:
            return f"{metric.shown} has {count} finite points so far, and the rule needs {self.warm_up}"
        return ""

    def judge(self, window: Window) -> Verdict:
        """Ask the condition; an operand without a value leaves it unanswered."""
        try:
            is_bad, evidence = self._condition.holds(window)
        except NoValueError as error:
            return unavailable(str(error))
        if not is_bad:
            return Verdict("ok", _operands(evidence), None, evidence)
        told = None if self._message is None else self._message.told(window)
        said = f"{_operands(evidence)}, which is {self._condition.text}" if told is None else told
        return Verdict("firing", said, self._severity, evidence)


def _is_read(metric: Metric) -> bool:
    return metric.is_own and metric.name != SECONDS_PER_STEP  # no log holds that one


def _operands(evidence: Evidence) -> str:
    told = [f"{name} is {value:.4g}" for name, value in evidence.items() if isinstance(value, float)]
    more = f" and {len(told) - _OPERANDS_TOLD} more" if len(told) > _OPERANDS_TOLD else ""
    return ", ".join(told[:_OPERANDS_TOLD]) + more
