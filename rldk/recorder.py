"""The conductor: normalize the log, ask the rules, append the event, wake the deliveries."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rldk import delivery, lineage, live
from rldk import journal as journals
from rldk.errors import ForkedError, JournalError
from rldk.event import Event
from rldk.health.monitor import Monitor
from rldk.health.monitor import facts as alert_facts
from rldk.health.rules import built_in
from rldk.normalize import normalize, with_own
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from rldk.bridge import Sink
    from rldk.delivery import Delivery, DeliveryReport
    from rldk.event import Kind
    from rldk.health.rule import Rule
    from rldk.health.standing import Change
    from rldk.journal import Journal
    from rldk.live import Own, Phase
    from rldk.normalize import Normalized, Numbers
    from rldk.settings import Settings


_logger = logger(__name__)


class Clock(Protocol):
    """Where the time comes from; the module `time` is one."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps back."""


class Teller(Protocol):
    """Who writes the files that tell of a run that is over; `rldk.report.closing` is one."""

    def write(self, path: Path, deliveries: Iterable[DeliveryReport]) -> list[Path]:
        """Write what a journal tells, beside it; never raises."""

    def write_deliveries(self, path: Path, deliveries: Iterable[DeliveryReport]) -> None:
        """Add what the trackers have got in the end; never raises."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run when it begins.

    Attributes:
        run_id: The run's id.
        trainer: Short name of the trainer, such as `GRPO`.
        git_sha: Commit of the code, where there is one.
        seed: The trainer's seed, where it has one.
        rank: Which of the training's processes this is; 0 is the main one.
        trl: Version of TRL, for the meaning of some names depends on it.
        facts: What else the run event tells: versions, arguments, units.
    """

    run_id: str
    trainer: str
    git_sha: str | None = None
    seed: int | None = None
    rank: int = 0
    trl: str = ""
    facts: dict[str, Any] = {}


class Recorder:
    """Records one segment of a run: one start of the training process.

    Calls may come from any thread. Each returns as soon as the journal holds the event.

    Args:
        journal: Where the events go first; a journal that holds events already is continued.
        run: The run.
        settings: How the deliveries behave.
        rules: The health rules that are asked at each event; RLDK's own by default.
        on_alert: Receives each alert event once the journal holds it, on the thread that found it.
        every_steps: Record a training step only when this many have passed since the last one, or when
            the rules, which judge each of them, have something to say of it.
        first_segment: Number of this segment, where the journal does not tell.
        began: When the run began, seconds since the epoch, where the journal does not tell.
        clock: Where the time comes from.

    Attributes:
        inbox: What `rldk.log` is given between `begin` and `end`.
    """

    def __init__(
        self,
        journal: Journal,
        run: Run,
        *,
        settings: Settings,
        rules: Iterable[Rule] | None = None,
        on_alert: Callable[[Event], None] | None = None,
        every_steps: int = 1,
        first_segment: int = 0,
        began: float | None = None,
        clock: Clock = time,
    ) -> None:
        self.journal = journal
        self.run = run
        self._settings = settings
        self.monitor = Monitor(built_in() if rules is None else rules)
        self._on_alert = on_alert
        self._every_steps = every_steps
        self._clock = clock
        self._epoch = clock.time() - clock.monotonic()
        self._pid = os.getpid()
        self._hurry = threading.Event()
        self._lock = threading.RLock()  # SIGTERM may come in the middle of an emit, and writes the end
        self._deliveries: list[Delivery] = []
        self._summary: Numbers = {}
        self._said: set[str] = set()
        self._last_step: int | None = None
        self._last_lap: float | None = None
        self.inbox = live.Inbox()
        last = journal.last
        self.segment = first_segment if last is None else last.segment + 1
        self.began = (began or self._now()) if last is None else round(last.time - last.wall_time, 3)

    def begin(self, step: int, sinks: Iterable[Sink], *, is_training: bool = True) -> None:
        """Write the run event and start to deliver.

        Args:
            step: The step from which training goes on.
            sinks: Where the events go.
            is_training: Whether training goes on; an evaluation alone leaves earlier steps as they are.
        """
        start, sinks = self.journal.end, list(sinks)
        self._remember()
        facts = {"trainer": self.run.trainer, **self.run.facts}
        homes = {sink.name: sink.tracker_run_id for sink in sinks if sink.tracker_run_id}
        facts |= {"tracker_runs": homes} if homes else {}
        run = self.emit("run", step, facts=facts if is_training else {**facts, "outside_training": True})
        self._deliveries = [
            delivery.Delivery(self.journal.path, sink, run=run, start=start, settings=self._settings)
            for sink in sinks
        ]
        for each in self._deliveries:
            each.start()
        live.receive(self.inbox)
        names = [sink.name for sink in sinks]
        for line in lineage.unsent(self.journal.path, self.run.facts.get("continues"), names):
            _logger.warning("%s", line)

    def log(
        self, step: int, logs: Mapping[str, Any], data_slice: Mapping[str, int] | None = None
    ) -> list[Event]:
        """Record what the trainer logged: an event for training, one for evaluation, or none.

        Args:
            step: The trainer's step.
            logs: What it logged.
            data_slice: What data the steps since the last log saw, such as `tokens_in`.
        """
        told = normalize(logs, self.run.trainer, self.run.facts.get("args", {}), self.run.trl)
        own: list[Own] = []
        if self.inbox and (told.train or told.eval):
            own = self._own(step, ("train", "eval") if told.train else ("eval",))
            told = _joined(told, own)
        self._say(step, told.notes)
        self._summary |= told.summary
        events = []
        if told.train:
            due = self._is_due(step)
            event, is_kept = self._take(
                "metrics", step, told.train, "train", data_slice or {}, {}, told.notes, is_due=due
            )
            events += [event] if is_kept else []
            if not is_kept:
                self.inbox.give_back(each for each in own if each.phase == "train")
        if told.eval:
            notes = [] if events else told.notes
            events.append(self.emit("metrics", step, told.eval, phase="eval", notes=notes))
        return events

    def _own(self, step: int, phases: Iterable[Phase]) -> list[Own]:
        """Give what `rldk.log` was given for a log of this step; record what belongs to other steps."""
        waiting = self.inbox.take(step, phases)
        for own in waiting:
            if own.step != step:
                self._record(own)
        return [own for own in waiting if own.step == step]

    def _record(self, own: Own) -> None:
        """Record what `rldk.log` was given as an event of its own."""
        self._say(own.step, own.notes)
        numbers, notes = with_own({}, own.numbers)
        if numbers:
            self.emit("metrics", own.step, numbers, phase=own.phase, notes=[*own.notes, *notes])

    def _say(self, step: int, notes: Iterable[str]) -> None:
        for note in notes:
            level = logging.DEBUG if note in self._said else logging.WARNING
            _logger.log(level, "step %d: %s", step, note)
            self._said.add(note)

    def lap(self, step: int) -> None:
        """Record how long the step took in this process."""
        now = self._clock.monotonic()
        if self._last_lap is not None:
            self.emit("metrics", step, {"rank_step_time": now - self._last_lap})
        self._last_lap = now
        for own in self.inbox.take(step) if self.inbox else ():
            self._record(own)

    def emit(
        self,
        kind: Kind,
        step: int,
        metrics: Numbers | None = None,
        *,
        phase: str = "train",
        data_slice: Mapping[str, int] | None = None,
        facts: Mapping[str, Any] | None = None,
        notes: Iterable[str] = (),
    ) -> Event:
        """Append one event, and the alerts that it gives rise to, and wake the deliveries.

        Raises:
            JournalError: The journal cannot be written.
            ForkedError: This is a fork of the process that records.
        """
        event, _ = self._take(kind, step, metrics or {}, phase, data_slice or {}, facts or {}, notes)
        return event

    def _take(
        self,
        kind: Kind,
        step: int,
        metrics: Numbers,
        phase: str,
        data_slice: Mapping[str, int],
        facts: Mapping[str, Any],
        notes: Iterable[str],
        *,
        is_due: bool = True,
    ) -> tuple[Event, bool]:
        """Have the rules judge an event; append it where it is due, or they have something to say."""
        if os.getpid() != self._pid:
            raise ForkedError(self.run.run_id, self._pid)
        with self._lock:
            event = self._event(kind, step, metrics, phase, facts)
            changes = self.monitor.take(event)
            if not (is_due or changes or self.monitor.notes):
                return event, False
            said = [*notes, *self.monitor.notes]
            told = msgspec.structs.replace(event, data_slice=dict(data_slice), notes=said)
            event = self.journal.append(told)
            alerts = [self._append_alert(change) for change in changes]
        for each in self._deliveries:
            each.wake(event.seq + len(alerts))
        if self._on_alert is not None:
            for alert in alerts:
                self._on_alert(alert)
        return event, True

    def _event(
        self,
        kind: Kind,
        step: int,
        metrics: Mapping[str, int | float],
        phase: str,
        facts: Mapping[str, Any],
    ) -> Event:
        time_ = self._now()
        return Event(
            kind=kind,
            seq=0 if self.journal.last is None else self.journal.last.seq + 1,
            time=time_,
            step=step,
            wall_time=round(time_ - self.began, 3),
            metrics=dict(metrics),
            rng={} if self.run.seed is None else {"seed": self.run.seed},
            data_slice={},
            model_info=self._model_info(phase) | dict(facts),
            notes=[],
        )

    def _append_alert(self, change: Change) -> Event:
        told = {"alert": alert_facts(change, self.monitor)}
        alert = self._event("alert", change.step, {change.rule.name: change.level}, "train", told)
        alert.notes.append(change.message)
        return self.journal.append(alert)

    def _remember(self) -> None:
        """Have the rules know what the run's earlier starts measured, or the run that it continues."""
        take: Callable[[Event], object] = self.monitor.take
        before = [self.journal.path]
        if self.journal.last is None:
            before = lineage.before(self.journal.path, self.run.facts.get("continues"))
            take = self.monitor.recall
        for path in before:
            for entry in journals.read(path):
                if entry.event is not None:
                    take(entry.event)

    def end(
        self,
        status: str,
        step: int,
        *,
        is_exit: bool = False,
        stopped_by: str | None = None,
        teller: Teller | None = None,
    ) -> list[DeliveryReport]:
        """Write the end event and the run's reports, and deliver what is left within the deadline.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            step: The last step.
            is_exit: Whether the process is ending before training did.
            stopped_by: Id of the alert that ended the training, where one did.
            teller: Writes what the journal tells of the run, for the trackers to get it, too.
        """
        facts: dict[str, Any] = {"stopped_by": stopped_by} if stopped_by else {}
        live.stop(self.inbox)
        try:
            for own in self.inbox.take(step, until=math.inf):
                self._record(own)
            facts |= {"status": status, "health": self.monitor.summary()}
            self.emit("end", step, self._summary, facts=facts)
            self.journal.close()
        except (JournalError, OSError) as error:
            _logger.error("the end of run %s is not in its journal: %s", self.run.run_id, error)  # noqa: TRY400
        deadline_s = self._settings.close_deadline_s
        if status == "KILLED":
            deadline_s = min(deadline_s, self._settings.term_deadline_s)
        files: list[Path] = []
        try:
            files = teller.write(self.journal.path, self._deliveries_so_far()) if teller else []
        finally:  # the trackers get their rest whatever becomes of the reports
            reports = delivery.finish_all(
                self._deliveries,
                status,
                [self.journal.path, *files],
                deadline_s,
                is_exit=is_exit,
                hurry=self._hurry,
            )
        if teller and reports:
            teller.write_deliveries(self.journal.path, reports)
        return reports

    def _deliveries_so_far(self) -> list[DeliveryReport]:
        return [each.report() for each in self._deliveries]

    def hurry(self) -> None:
        """Let `end` wait no longer; to be called from another thread, or from a signal's handler."""
        self._hurry.set()

    def _is_due(self, step: int) -> bool:
        is_due = (
            self._last_step is None or step == self._last_step or step - self._last_step >= self._every_steps
        )
        if is_due:
            self._last_step = step
        return is_due

    def _model_info(self, phase: str) -> dict[str, Any]:
        told: dict[str, Any] = {"run_id": self.run.run_id, "git_sha": self.run.git_sha, "phase": phase}
        told |= {"segment": self.segment, "rank": self.run.rank or None}
        return {k: v for k, v in told.items() if v is not None}

    def _now(self) -> float:
        """The time in whole milliseconds, later than every event before, whatever the clock does."""
        now = round(self._epoch + self._clock.monotonic(), 3)
        last = self.journal.last
        return now if last is None else max(now, round(last.time + 0.001, 3))


def _joined(told: Normalized, owns: Iterable[Own]) -> Normalized:
    """Add to what the trainer logged what the user's own code has."""
    parts: dict[str, Numbers] = {"train": told.train, "eval": told.eval}
    notes = [*told.notes]
    for own in owns:
        parts[own.phase], more = with_own(parts[own.phase], own.numbers)
        notes += [*own.notes, *more]
    return told._replace(train=parts["train"], eval=parts["eval"], notes=notes)
