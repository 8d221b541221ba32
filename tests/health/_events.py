"""Events of runs that are made up, as the recorder writes them."""

from __future__ import annotations

from rldk.event import Event

SECONDS = 2.0
"""How long a step takes in these runs."""


def event(step, metrics, kind="metrics", *, time=None, **told):
    """One event; its time follows from its step."""
    return Event(
        kind=kind,
        step=step,
        time=step * SECONDS if time is None else time,
        wall_time=0.0,
        metrics=metrics,
        rng={},
        data_slice={},
        model_info={"run_id": "r", "phase": "train", **told},
        notes=[],
    )


def begin(trainer="SFT", step=0, **told):
    """The event that begins a run, or goes on with it from a step."""
    return event(step, {}, "run", trainer=trainer, **told)


def heard(monitor, events):
    """Each change as rule, state, severity and step."""
    changes = [change for each in events for change in monitor.take(each)]
    return [(change.rule.name, change.state, change.severity, change.step) for change in changes]


def line(monitor, name):
    """What the summary says of a rule."""
    return next(each for each in monitor.summary()["rules"] if each["rule"] == name)
