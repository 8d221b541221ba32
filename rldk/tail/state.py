"""Where does a run stand, as far as its journal has been read? Bounded, whatever the journal holds."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.health.monitor import Monitor
from rldk.health.rules import built_in
from rldk.tail.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk.event import Event

_MOST_METRICS: Final = 2000
_MOST_ALERTS: Final = 200
_PACE_POINTS: Final = 50


class Alert(NamedTuple):
    """What a rule has said.

    Attributes:
        step: When.
        severity: How bad it is, or was.
        is_over: Whether it says that the trouble is over.
        rule: The rule.
        message: A sentence.
        metrics: What it rests on.
    """

    step: int
    severity: str
    is_over: bool
    rule: str
    message: str
    metrics: tuple[str, ...] = ()


class Health(NamedTuple):
    """How well the run is.

    Attributes:
        verdict: `ok`, `warning`, `critical` or `unknown`.
        firing: Names of the rules that fire.
        unavailable: Rules about this trainer that cannot judge, with the reason.
        rules: How many rules are about this trainer.
    """

    verdict: str
    firing: list[str]
    unavailable: dict[str, str]
    rules: int


class State:
    """A run as its events tell of it.

    Attributes:
        run_id: The run; empty until an event tells.
        trainer: Short name of its trainer.
        step: The newest step.
        first_step: The first step that was logged.
        began: When the run began, seconds since the epoch; None before the first event.
        first: Time of the journal's first event.
        last: Time of its newest event.
        last_seq: Number of that event.
        status: How it ended; empty while it has not.
        traces: The metrics, by phase and name.
        left_out: Metrics that were too many to keep.
        resources: The newest sample.
        alerts: What rules said, the newest last.
        checkpoint: Step of the newest checkpoint.
        homes: The trackers that the run told, with their run's id.
        unreadable: Lines that hold no event.
        is_thinned: Whether the journal was too long to be read whole.
    """

    def __init__(self) -> None:
        self.run_id = self.trainer = self.status = ""
        self.step = self.first_step = 0
        self.began: float | None = None
        self.first = self.last = 0.0
        self.last_seq = -1
        self.traces: dict[tuple[str, str], Trace] = {}
        self.left_out = 0
        self.resources: Mapping[str, int | float] = {}
        self.alerts: deque[Alert] = deque(maxlen=_MOST_ALERTS)
        self.checkpoint: int | None = None
        self.homes: dict[str, str] = {}
        self.unreadable = 0
        self.is_thinned = False
        self._args: Mapping[str, Any] = {}
        self._pace: deque[tuple[float, int]] = deque(maxlen=_PACE_POINTS)
        self._told: tuple[str, list[str]] | None = None
        self._ended: Mapping[str, Any] = {}
        self._monitor = Monitor(built_in())

    def take(self, event: Event) -> None:
        """Take over an event."""
        if self.began is None:
            self.first, self.began = event.time, event.time - event.wall_time
        self.run_id = event.run_id or self.run_id
        self.last, self.last_seq = event.time, event.seq
        if event.kind == "alert":
            self._alert(event)
        elif event.kind == "run":
            self._begin(event)
        elif event.kind == "end":
            self._end(event)
        elif event.kind == "resource":
            self.resources = event.metrics
        elif event.kind == "checkpoint":
            self.checkpoint = event.step
        else:
            self._measure(event)
        self._monitor.take(event)

    def _begin(self, event: Event) -> None:
        told = event.model_info
        self.trainer = str(told.get("trainer") or self.trainer)
        args = told.get("args")
        self._args = args if isinstance(args, dict) else self._args
        homes = told.get("tracker_runs")
        self.homes |= {str(k): str(v) for k, v in homes.items()} if isinstance(homes, dict) else {}
        self.status, self._ended = "", {}
        if told.get("outside_training"):
            return
        self.step = event.step
        self.traces = {key: trace for key, trace in self.traces.items() if trace.rewind(event.step)}
        self._pace.clear()
        self._pace.append((event.time, event.step))

    def _measure(self, event: Event) -> None:
        if event.model_info.get("rank"):
            return
        self.first_step = event.step if not self.traces else self.first_step
        self.step = max(self.step, event.step)
        if event.phase == "train":
            self._pace.append((event.time, event.step))
        for name, value in event.metrics.items():
            key = event.phase, name
            trace = self.traces.get(key)
            if trace is None:
                if len(self.traces) >= _MOST_METRICS:
                    self.left_out += 1
                    continue
                trace = self.traces[key] = Trace()
            trace.add(event.step, value)

    def _alert(self, event: Event) -> None:
        told = event.model_info.get("alert")
        if not isinstance(told, dict):
            return
        message = event.notes[0] if event.notes else str(told.get("message", ""))
        is_over = told.get("state") != "firing"
        rule, severity = str(told.get("rule", "")), str(told.get("severity", ""))
        metrics = told.get("metrics")
        read = tuple(map(str, metrics)) if isinstance(metrics, list) else ()
        self.alerts.append(Alert(event.step, severity, is_over, rule, message, read))
        firing = told.get("firing")
        names = [str(name) for name in firing] if isinstance(firing, list) else []
        self._told = str(told.get("verdict", "unknown")), names

    def _end(self, event: Event) -> None:
        self.status = str(event.model_info.get("status") or "FINISHED")
        self.step = max(self.step, event.step)
        health = event.model_info.get("health")
        self._ended = health if isinstance(health, dict) else {}

    def health(self) -> Health:
        """How well it is: by the journal's alerts, or by what its end tells of each rule.

        Which rules cannot judge a run that goes on is found by asking RLDK's own again.
        """
        summary = self._ended if isinstance(self._ended.get("rules"), list) else self._monitor.summary()
        about = [line for line in summary["rules"] if isinstance(line, dict) and line.get("applies")]
        blind = {str(r["rule"]): str(r.get("reason", "")) for r in about if r.get("state") == "unavailable"}
        if self._ended:
            firing = summary.get("firing")
            names = [str(name) for name in firing] if isinstance(firing, list) else []
            return Health(str(self._ended.get("verdict", "unknown")), names, blind, len(about))
        judged = any(line.get("points") for line in about)
        verdict, names = self._told or ("ok" if judged else "unknown", [])
        return Health(verdict, names, blind, len(about))

    @property
    def max_steps(self) -> int | None:
        """The step at which training ends; None where it cannot be told.

        Where the arguments give epochs or episodes, it follows from how many the steps so far took.
        """
        told = _number(self._args.get("max_steps"))
        if told and told > 0 and self.trainer != "PPO":  # which ignores it
            return int(told)
        for done, whole in (("episodes_total", "total_episodes"), ("epoch", "num_train_epochs")):
            trace, goal = self.traces.get(("train", done)), _number(self._args.get(whole))
            if trace and goal and math.isfinite(trace.last.value) and trace.last.value > 0:
                return max(round(trace.last.step * goal / trace.last.value), self.step)
        return None

    @property
    def steps_per_s(self) -> float | None:
        """The pace of the last logs; None before the second."""
        if len(self._pace) < 2:  # noqa: PLR2004  # a pace needs two
            return None
        (began, first), (ended, last) = self._pace[0], self._pace[-1]
        return (last - first) / (ended - began) if ended > began and last > first else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this pace."""
        total, pace = self.max_steps, self.steps_per_s
        return None if total is None or not pace else max(total - self.step, 0) / pace


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
