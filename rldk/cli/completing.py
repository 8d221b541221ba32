"""What does the shell offer at TAB? Names that are known without loading anything heavy."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def adapters(incomplete: str) -> list[str]:
    """Name the installed adapters."""
    return _beginning((point.name for point in entry_points(group="rldk.adapters")), incomplete)


def trackers(incomplete: str) -> list[str]:
    """Name the installed trackers."""
    return _beginning((point.name for point in entry_points(group="rldk.sinks")), incomplete)


def trainers(incomplete: str) -> list[str]:
    """Name TRL's trainers, as the catalog does."""
    from rldk import catalog

    known = {name for metric in catalog.metrics() for name in metric.trainers}
    return _beginning(known - {"*"}, incomplete)


def rules(incomplete: str) -> list[str]:
    """Name RLDK's own health rules."""
    from rldk.health.rules import built_in

    return _beginning((rule.name for rule in built_in()), incomplete)


def metrics(incomplete: str) -> list[str]:
    """Name the metrics of the catalog."""
    from rldk import catalog

    return _beginning((metric.name for metric in catalog.metrics() if "{" not in metric.name), incomplete)


def renamings(incomplete: str) -> list[str]:
    """Complete RAW=CANONICAL, of which the catalog knows the second half."""
    raw, equals, name = incomplete.partition("=")
    return [f"{raw}={metric}" for metric in metrics(name)] if equals else []


def thresholds(incomplete: str) -> list[str]:
    """Complete NAME=NUMBER, of which the first half is the name of a limit."""
    from rldk.health.limits import LIMITS

    return _beginning((f"{name}=" for name in LIMITS), incomplete)
