"""What is said of a run at one moment: whether it lives, where it stands, what the trackers lack."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from rldk import journal
from rldk.errors import SettingError
from rldk.redact import redact_text
from rldk.report.panels import panels
from rldk.tail.delivery import Lag, lags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rldk.tail.following import Follower
    from rldk.tail.state import Health, State
    from rldk.tail.trace import Trace

Life = Literal["waiting", "running", "silent", "stale", "ended"]

_SILENT_S: Final = 60.0
_SILENT_LOGS: Final = 10
_ALERTS: Final = 20
_NAMES_SHOWN: Final = 20


class Row(NamedTuple):
    """A metric as it is shown.

    Attributes:
        name: Its name, with its phase where that is another than training.
        bare: Its name alone.
        section: What it is listed under; empty for what training comes down to.
        trace: Its points.
    """

    name: str
    bare: str
    section: str
    trace: Trace


class Standing(NamedTuple):
    """A run at one moment.

    Attributes:
        state: What its journal tells.
        life: `waiting` for a journal; `running`; `silent`, where a process has it and logs nothing;
            `stale`, where no process has it and no end is recorded; `ended`.
        age_s: Seconds since the newest event.
        health: How well it is.
        lags: What each tracker lacks.
        rows: The metrics, the most telling ones first.
        trouble: Why the journal cannot be read; empty where it can.
    """

    state: State
    life: Life
    age_s: float
    health: Health
    lags: list[Lag]
    rows: list[Row]
    trouble: str

    @property
    def is_bad(self) -> bool:
        """Whether something is found: a critical verdict, or an end that is none that was meant."""
        return self.health.verdict == "critical" or self.life == "stale" or self.state.status in _BAD_ENDS

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began, until now or until its last sign."""
        state = self.state
        goes_on = self.life in {"running", "silent"}
        return 0.0 if state.began is None else state.last - state.began + (self.age_s if goes_on else 0.0)


_BAD_ENDS: Final = frozenset({"FAILED", "KILLED"})


def standing(follower: Follower, now: float, globs: Sequence[str] = ()) -> Standing:
    """Sum a journal up.

    Args:
        follower: The journal.
        now: Seconds since the epoch.
        globs: Which metrics are wanted, such as `reward*` and `eval/*`; all by default.
    """
    state = follower.state
    age = max(now - state.last, 0.0) if state.last_seq >= 0 else 0.0
    return Standing(
        state,
        _life(follower, age),
        age,
        state.health(),
        lags(follower.path, state),
        _rows(state, globs),
        follower.trouble,
    )


def _life(follower: Follower, age_s: float) -> Life:
    state = follower.state
    if follower.trouble or state.last_seq < 0:
        return "waiting"
    if state.status:
        return "ended"
    try:
        is_held = journal.is_being_written(follower.path)
    except OSError:
        return "waiting"
    if not is_held:
        return "stale"
    usual = 1 / state.steps_per_s if state.steps_per_s else 0.0
    return "silent" if age_s > max(_SILENT_S, _SILENT_LOGS * usual) else "running"


def demand(told: Standing, globs: Sequence[str]) -> None:
    """Refuse globs that choose none of the metrics that there are.

    Raises:
        SettingError: No metric is called so.
    """
    if told.rows or not (there := _rows(told.state, ())):
        return
    names = ", ".join(row.name for row in there[:_NAMES_SHOWN])
    raise SettingError("--metrics", ",".join(globs), f"some of {names}")


def _rows(state: State, globs: Sequence[str]) -> list[Row]:
    """Order the metrics as a report does: what a trainer's run comes down to, its evaluations, the rest."""
    by_phase: dict[str, dict[str, Trace]] = {}
    for (phase, name), trace in state.traces.items():
        by_phase.setdefault(phase, {})[name] = trace
    main, rest = [], []
    for phase in sorted(by_phase, key=lambda phase: phase != "train"):
        traces, prefix = by_phase[phase], "" if phase == "train" else f"{phase}/"
        first = [name for panel in panels(state.trainer, list(traces)) for name in panel]
        others = sorted(name for name in traces if name not in set(first))
        section = "evaluation" if prefix else ""
        main += [Row(prefix + name, name, section, traces[name]) for name in first]
        rest += [Row(prefix + name, name, "and the rest", traces[name]) for name in others]
    rows = [*main, *rest]
    return [row for row in rows if not globs or any(fnmatch.fnmatchcase(row.name, glob) for glob in globs)]


def document(told: Standing, path: str) -> dict[str, Any]:
    """Put it into one document, as `rldk tail --json` prints it."""
    state, health = told.state, told.health
    return {
        "journal": path,
        "run_id": state.run_id or None,
        "trainer": state.trainer or None,
        "life": told.life,
        "status": state.status or None,
        "trouble": told.trouble or None,
        "step": state.step,
        "max_steps": state.max_steps,
        "elapsed_s": round(told.elapsed_s, 3),
        "steps_per_s": state.steps_per_s,
        "left_s": state.left_s if told.life in {"running", "silent"} else None,
        "last_event_age_s": round(told.age_s, 3),
        "metrics": {redact_text(row.name): _told(row.trace) for row in told.rows},
        "health": {
            "verdict": health.verdict,
            "firing": health.firing,
            "unavailable": health.unavailable,
            "rules": health.rules,
        },
        "alerts": [alert._asdict() for alert in list(state.alerts)[-_ALERTS:]],
        "resources": dict(state.resources),
        "checkpoint": state.checkpoint,
        "delivery": [lag._asdict() for lag in told.lags],
        "unreadable_lines": state.unreadable,
        "is_thinned": state.is_thinned,
    }


def _told(trace: Trace) -> dict[str, Any]:
    return {"step": trace.last.step, "value": trace.last.value, "change": trace.change}
