"""What is a health rule, and what may it say?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from rldk.health.window import Window

Severity = Literal["info", "warning", "critical"]
State = Literal["ok", "firing", "unavailable"]
_STATES: Final = frozenset(get_args(State))
Evidence = dict[str, float | str]

LEVELS: Final[Mapping[Severity, int]] = MappingProxyType({"info": 1, "warning": 2, "critical": 3})
SEVERITIES: Final[Mapping[int, Severity]] = MappingProxyType({n: severity for severity, n in LEVELS.items()})


class Verdict(NamedTuple):
    """What a rule says of one point of a run.

    Attributes:
        state: Whether it is well, is not, or cannot be judged.
        reason: What is seen, or why nothing can be; a sentence without its stop.
        severity: How bad it is; None unless it fires.
        evidence: The numbers that the sentence rests on, by name.
    """

    state: State
    reason: str = ""
    severity: Severity | None = None
    evidence: Evidence = {}  # noqa: RUF012  # never changed


def ok(reason: str = "", **evidence: float | str) -> Verdict:
    """All is well."""
    return Verdict("ok", reason, None, evidence)


def firing(severity: Severity, reason: str, **evidence: float | str) -> Verdict:
    """Something is wrong."""
    return Verdict("firing", reason, severity, evidence)


def unavailable(reason: str) -> Verdict:
    """Nothing can be said, and why."""
    return Verdict("unavailable", reason)


def silent() -> Verdict:
    """The newest event says nothing to the rule: what it said before stands, and no point is counted."""
    return Verdict("unavailable")


def checked(verdict: object) -> Verdict:
    """Make sure of what a rule says, and that its evidence is numbers and texts.

    Raises:
        TypeError: It is no verdict, or one that fires without a severity.
    """
    if not isinstance(verdict, Verdict) or verdict.state not in _STATES:
        raise TypeError(f"judge gave {verdict!r}, which is no verdict")
    if not isinstance(verdict.reason, str) or not isinstance(verdict.evidence, Mapping):
        raise TypeError(f"judge gave {verdict!r}, whose reason is no text or whose evidence is no mapping")
    if verdict.state != "firing":
        return verdict if verdict.severity is None else verdict._replace(severity=None)
    if verdict.severity not in LEVELS:
        raise TypeError(f"severity {verdict.severity!r} is none of {', '.join(LEVELS)}")
    told = {str(name): _plain(value) for name, value in verdict.evidence.items()}
    return verdict._replace(evidence=told)


def _plain(value: object) -> float | str:
    if isinstance(value, float):  # one of NumPy's, too
        return float(value)
    if isinstance(value, int | str):
        return value
    try:
        return float(value)  # type: ignore[arg-type]  # whatever can be one
    except (TypeError, ValueError):
        return str(value)


class Persistence(NamedTuple):
    """A rule fires when `hits` of the last `points` points were bad, and is over when none of them was."""

    hits: int
    points: int


def units(**unit_of: str) -> Mapping[str, str]:
    """The metrics that a rule reads, each with its unit."""
    return MappingProxyType(unit_of)


class Rule(ABC):
    """Judges one trouble by what the run has logged: stateless, and the same for the same window.

    A rule of your own is a subclass with these attributes and `judge`; give an instance to
    `RLDKCallback(rules=[...])`. Time is counted in logged points, whatever `logging_steps` is.

    Attributes:
        name: Its name, in snake_case; that of its alerts, too.
        title: The trouble, for people.
        reads: The metrics that it needs, each with the unit that its numbers are meant in; in another
            unit it is unavailable. A name that ends in `*` stands for all that begin like it.
        looks_at: Metrics that it uses where they are there.
        part: Which of the run's logs it is asked at: `train`, `eval`, `resource` or `checkpoint`.
        trainers: Short names of the trainers that it applies to; empty for any.
        warm_up: How many points of each metric it reads must be there before it is asked.
        persistence: How many bad points make an alert.
        cooldown: For how many points after an alert it does not speak of a new one that is no worse.
        meaning: What goes wrong, in a sentence.
        advice: What to do about it.
        source: Where its reasons are from: an address or a citation.
    """

    name: str
    title: str
    reads: Mapping[str, str] = MappingProxyType({})
    looks_at: tuple[str, ...] = ()
    part: str = "train"
    trainers: tuple[str, ...] = ()
    warm_up: int = 1
    persistence: Persistence = Persistence(1, 1)
    cooldown: int = 10
    meaning: str = ""
    advice: str = ""
    source: str = ""

    @abstractmethod
    def judge(self, window: Window) -> Verdict:
        """Judge the newest point; every metric of `reads` has its warm-up behind it."""

    def notes(self, verdict: Verdict) -> list[str]:
        """What each event that is judged so is noted to be, beside the alert: nothing, by default."""
        del verdict
        return []

    def cannot_apply(self, window: Window) -> str:
        """Why the rule has nothing to judge in such a run, whatever is logged; empty where it has."""
        del window
        return ""

    def weakness(self, window: Window) -> str:
        """Why the rule sees little in such a run, though it can judge; empty where it sees well."""
        del window
        return ""
