"""What do the rules say of a run that was not judged while it ran? Its story, with their alerts in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rldk.health.monitor import Monitor, facts
from rldk.report.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rldk.event import Event
    from rldk.health.rule import Rule
    from rldk.health.standing import Change


class Judged(NamedTuple):
    """A run's story, and what the rules say of its health."""

    story: Story
    health: Mapping[str, Any]


def is_judged(events: Iterable[Event]) -> bool:
    """Whether the run was judged while it ran: it has alerts, or its end tells of its health."""
    return any(event.kind == "alert" or "health" in event.model_info for event in events)


def judged(events: Iterable[Event], rules: Iterable[Rule], run_id: str = "") -> Judged:
    """Tell a run's story and ask the rules at each of its events, in one pass.

    Args:
        events: The run's events in order, with canonical names, and without alerts.
        rules: The rules.
        run_id: The run; by default the one that the first event names.

    Raises:
        SourceError: There are too many different metrics to be metrics.
    """
    story, monitor = Story(run_id), Monitor(rules)
    for event in events:
        story.add(event)
        for change in monitor.take(event):
            story.add(_alert(change, event, monitor))
    return Judged(story, monitor.summary())


def _alert(change: Change, event: Event, monitor: Monitor) -> Event:
    told = ("run_id", "git_sha", "segment")
    info = {name: event.model_info[name] for name in told if name in event.model_info}
    return msgspec.structs.replace(
        event,
        kind="alert",
        step=change.step,
        metrics={change.rule.name: change.level},
        data_slice={},
        model_info={**info, "phase": "train", "alert": facts(change, monitor)},
        notes=[change.message],
    )
