"""What are the numbers that a rule's expression speaks of, at the newest point of a run?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.event import as_float
from rldk.health import robust
from rldk.health.absence import why_absent
from rldk.health.window import is_broken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.health.rule import Evidence
    from rldk.health.window import Series, Window

LAST: Final = 512
"""How many of a metric's last points can be asked for."""
FIRST: Final = 64
"""How many of a metric's first points can be asked for."""


class NoValueError(Exception):
    """An operand has no value now; its text says why."""


class Look(NamedTuple):
    """One look at a run: the window, and the operands that were needed so far."""

    window: Window
    evidence: Evidence


Number = Callable[[Look], float]
Test = Callable[[Look], bool]


class Metric(NamedTuple):
    """A metric that an expression names.

    Attributes:
        name: Its canonical name.
        part: The part of the run that logs it.
        is_own: Whether that is the part at whose logs the rule is asked.
    """

    name: str
    part: str
    is_own: bool

    @property
    def shown(self) -> str:
        """The name as people write it."""
        return self.name if self.is_own else f"{self.part}:{self.name}"


class Statistic(NamedTuple):
    """A number that is made of a metric's points.

    Attributes:
        signature: How it is called.
        takes: What it makes of the series and of the count that it is called with.
        needs: How many points it needs beyond the count.
        least: The smallest count.
        most: The largest count.
        usual: The count where none is given; 0 where one must be.
    """

    signature: str
    takes: Callable[[Series, int], float]
    needs: int = 0
    least: int = 1
    most: int = LAST
    usual: int = 0


STATISTICS: Final = {
    "median": Statistic("median(metric, n)", lambda series, n: robust.median(series.last(n))),
    "mean": Statistic("mean(metric, n)", lambda series, n: robust.mean(series.last(n))),
    "min": Statistic("min(metric, n)", lambda series, n: min(series.last(n))),
    "max": Statistic("max(metric, n)", lambda series, n: max(series.last(n))),
    "std": Statistic("std(metric, n)", lambda series, n: robust.deviation(series.last(n)), least=2),
    "noise": Statistic("noise(metric, n)", lambda series, n: robust.noise(series.last(n)), least=2),
    "baseline": Statistic(
        "baseline(metric, n = 10)", lambda series, n: robust.median(series.first(n)), most=FIRST, usual=10
    ),
    "previous": Statistic("previous(metric)", lambda series, n: series.last(n + 1)[0], 1, most=1, usual=1),
    "lag": Statistic("lag(metric, n)", lambda series, n: series.last(n + 1)[0], 1, most=LAST - 1),
    "change": Statistic(
        "change(metric, n)", lambda series, n: series.latest - series.last(n + 1)[0], 1, most=LAST - 1
    ),
}
"""What can be made of a metric, by name; `n` counts logged points."""


OF_NUMBERS: Final[Mapping[str, Callable[[float], float]]] = {
    "abs": abs,
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
}
"""Functions of a number, by name."""

SIGNATURES: Final[Mapping[str, str]] = {
    **{name: statistic.signature for name, statistic in STATISTICS.items()},
    **{name: f"{name}(number)" for name in OF_NUMBERS},
    "is_nan": "is_nan(metric)",
    "missing": "missing(metric)",
    "arg": 'arg("name")',
    "metric": 'metric("name")',
}
"""How each function is called, by name."""


def value_of(metric: Metric) -> Number:
    """The metric's newest value."""

    def number(look: Look) -> float:
        value = _series(metric, look.window).latest
        look.evidence[metric.shown] = value
        return value

    return number


def statistic_of(text: str, name: str, metric: Metric, count: int) -> Number:
    """A statistic of the metric's points; `text` is what evidence calls it."""
    statistic = STATISTICS[name]
    needed = count + statistic.needs

    def number(look: Look) -> float:
        series = _series(metric, look.window)
        if len(series) < needed:
            raise NoValueError(f"{metric.shown} has {len(series)} points so far, and {text} needs {needed}")
        value = finite(text, statistic.takes, series, count)
        look.evidence[text] = value
        return value

    return number


def argument(text: str, name: str) -> Number:
    """A numeric argument of the trainer."""

    def number(look: Look) -> float:
        value = look.window.argument(name)
        if value is None or is_broken(value):
            raise NoValueError(f"the run tells no number for its argument {name}")
        look.evidence[text] = value
        return value

    return number


def is_nan(text: str, metric: Metric) -> Test:
    """Whether the newest log holds the metric as NaN."""

    def test(look: Look) -> bool:
        window = look.window
        if metric.name not in window.current and not window.has_logged(metric.name, metric.part):
            raise NoValueError(why_absent(metric.name, metric.part, window))
        found = math.isnan(as_float(window.current.get(metric.name, 0)))
        look.evidence[text] = float(found)
        return found

    return test


def is_missing(text: str, metric: Metric) -> Test:
    """Whether the run has not logged the metric so far, not even as NaN."""

    def test(look: Look) -> bool:
        found = not look.window.has_logged(metric.name, metric.part)
        look.evidence[text] = float(found)
        return found

    return test


def finite(text: str, function: Callable[..., float], *args: object) -> float:
    """Work out a number.

    Raises:
        NoValueError: It is not defined, or beyond the floats.
    """
    try:
        value = function(*args)
    except ZeroDivisionError:
        raise NoValueError(f"{text} divides by zero") from None
    except OverflowError:
        value = math.inf
    except ValueError:
        raise NoValueError(f"{text} is not defined for these values") from None
    if is_broken(value):
        raise NoValueError(f"{text} is beyond the floats")
    return value


def _series(metric: Metric, window: Window) -> Series:
    """The metric's finite values.

    Raises:
        NoValueError: There are none, or the newest log holds the metric as NaN or an infinity.
    """
    if metric.is_own and is_broken(now := window.current.get(metric.name, 0)):
        raise NoValueError(f"{metric.name} is {as_float(now)}")
    series = window.series(metric.name, metric.part)
    if not len(series):
        is_logged = window.has_logged(metric.name, metric.part)
        absent = why_absent(metric.name, metric.part, window)
        raise NoValueError(f"{metric.shown} has no finite value so far" if is_logged else absent)
    return series
