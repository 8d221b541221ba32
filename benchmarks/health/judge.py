"""What do the rules say of a run: the alerts, and how each rule stood at the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from rldk import journal
from rldk.event import Event
from rldk.health.monitor import Monitor
from rldk.health.rules import built_in
from rldk.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rldk.health.standing import Change

_CORPUS_ARGUMENTS = {"num_generations": 2, "beta": 0.0}
_TRAINERS = ("PPO", "GRPO", "RLOO", "DPO", "KTO", "Reward", "SFT", "OnlineDPO")
_BROKEN = ("nan", "nanloss", "rnone", "mu")  # mu: eight passes over each batch, most of it clipped


class Judged(NamedTuple):
    """A run as the rules saw it."""

    name: str
    alerts: list[Change]
    health: dict[str, Any]

    def began(self, severity: str) -> list[str]:
        """Rules that fired with this severity."""
        return sorted(
            {each.rule.name for each in self.alerts if each.state == "firing" and each.severity == severity}
        )

    def first(self, rule: str) -> Change | None:
        """A rule's first alert."""
        return next((each for each in self.alerts if each.rule.name == rule and each.state == "firing"), None)


def judged(name: str, events: Iterable[Event]) -> Judged:
    """Run all rules over the events of a run."""
    monitor = Monitor(built_in())
    alerts = [change for event in events for change in monitor.take(event)]
    if monitor.errors:
        raise RuntimeError(f"{name}: a rule failed")
    return Judged(name, alerts, monitor.summary())


def recorded(path: Path) -> Iterator[Event]:
    """The events of a journal."""
    return (entry.event for entry in journal.read(path) if entry.event is not None)


def corpus(folder: Path) -> Iterator[tuple[str, list[Event]]]:
    """The public GRPO runs, where this machine has them: name and events."""
    for path in sorted(folder.glob("*.json")):
        logs = json.loads(path.read_text())
        yield path.stem, _events("GRPO", ((log.get("step", 0), log) for log in logs), _CORPUS_ARGUMENTS)


def recordings(folder: Path) -> Iterator[tuple[str, list[Event]]]:
    """What real trainers of several releases logged in a few steps, without the broken ones."""
    for path in sorted(folder.glob("*.jsonl")):
        _, trainer, *variant = path.stem.split("_")
        if not set(_BROKEN).intersection(variant):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            name = next(each for each in _TRAINERS if each.lower() == trainer)
            yield path.stem, _events(name, ((line["global_step"], line["logs"]) for line in lines), {})


def _events(
    trainer: str, logs: Iterable[tuple[int, dict[str, Any]]], arguments: dict[str, Any]
) -> list[Event]:
    told = {"trainer": trainer, "args": arguments}
    events = [_event("run", 0, 0.0, {}, told)]
    seconds = 0.0
    for step, log in logs:
        seconds += log.get("step_time") or 1.0
        parts = normalize({key: value for key, value in log.items() if key != "step"}, trainer)
        events += [
            _event("metrics", step, seconds, numbers, {"phase": phase})
            for phase, numbers in (("train", parts.train), ("eval", parts.eval))
            if numbers
        ]
    return events


def _event(kind: Any, step: int, seconds: float, metrics: dict[str, Any], told: dict[str, Any]) -> Event:  # noqa: ANN401
    return Event(
        kind=kind,
        time=seconds,
        step=step,
        wall_time=seconds,
        metrics=metrics,
        rng={},
        data_slice={},
        model_info=told,
        notes=[],
    )
