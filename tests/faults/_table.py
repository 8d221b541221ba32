"""The table of faults: what became of the events at the end of training, and of the points after the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.delivery import DeliveryReport


class Outcome(NamedTuple):
    """One line of the table."""

    fault: str
    tracker: str
    delivered: int
    replayed: int
    waiting: int
    rejected: int
    failures: int
    end_s: float
    lost: int
    repeated: int
    altered: int


TABLE: Final = pytest.StashKey[list[Outcome]]()


def outcome(fault: str, report: DeliveryReport, end_s: float, counts: Mapping[str, int]) -> Outcome:
    """Make a line of what was reported at the end, and of how many points differ after the cure."""
    return Outcome(
        fault=fault,
        tracker=report.tracker,
        delivered=report.delivered,
        replayed=report.replayed,
        waiting=report.waiting,
        rejected=report.rejected,
        failures=report.failures,
        end_s=end_s,
        lost=counts.get("missing", 0),
        repeated=counts.get("repeated", 0) + counts.get("extra", 0),
        altered=counts.get("altered", 0),
    )


def title(test: str) -> str:
    """Name a fault by the test that makes it."""
    return test.removeprefix("test_").replace("_", " ").replace("[", ": ").rstrip("]")


def lines(outcomes: list[Outcome]) -> list[str]:
    """Lay the table out."""
    width = max(len(outcome.fault) for outcome in outcomes)
    names = Outcome._fields[2:]
    head = f"{'fault':{width}} {'tracker':7} " + " ".join(f"{name:>9}" for name in names)
    rows = (
        f"{fault:{width}} {tracker:7} "
        + " ".join(f"{count:9.1f}" if isinstance(count, float) else f"{count:9}" for count in counts)
        for fault, tracker, *counts in outcomes
    )
    return [head, *rows]
