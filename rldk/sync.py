"""How does a run get from where it is kept into a tracker: the same delivery as in training, later."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from rldk import bridge, journal
from rldk.bridge import Target, tracker_metrics
from rldk.cursor import CursorFile
from rldk.delivery import Delivery
from rldk.errors import RLDKError, SettingError
from rldk.event import Event, as_float
from rldk.journal import SUFFIX
from rldk.redact import redact_text
from rldk.sources import listed
from rldk.staging import Staged, stage
from rldk.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rldk.bridge import Holding, Sink
    from rldk.cursor import Cursor
    from rldk.delivery import DeliveryReport
    from rldk.settings import Settings
    from rldk.sources import RunSource

_GLANCE_S: Final = 0.2
_SENT_ALONG: Final = (
    SUFFIX,
    "_metrics.csv",
    "_alerts.json",
    "_final_report.json",
    "_report.html",
    "_post_mortem.md",
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one run.

    Attributes:
        run_id: The run.
        source: Where it was read.
        report: What the tracker got; None where nothing was to be done, or where it failed before.
        error: Why it could not be read or delivered.
        home: Where the tracker has it, where nothing was to be done.
        problems: What of the source could not be read, and so was not sent, a sentence each.
        lost: Where the tracker had the run before, and has it no more, so that it is sent anew.
    """

    run_id: str
    source: str
    report: DeliveryReport | None = None
    error: str = ""
    home: str = ""
    problems: tuple[str, ...] = ()
    lost: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the tracker has the whole run now."""
        if self.report is None:
            return not self.error
        return self.report.is_closed and not self.report.waiting and not self.report.rejected


class Progress(NamedTuple):
    """How far the delivery of one run is, in events."""

    run_id: str
    done: int
    total: int
    is_failing: bool


class Plan(msgspec.Struct, kw_only=True):
    """What a sync would do with one run.

    Attributes:
        run_id: The run.
        source: Where it is read.
        target: The tracker run that would be written to, in words.
        events: Events that would be sent.
        points: Numbers in them.
        steps: First and last step.
        config: Parameters that go along.
        tags: Tags that go along.
        renamed: Names that the tracker cannot say, and what it would show.
        changed: Names to how many of their values the tracker cannot keep exactly.
        unsent: Events that hold no number, of which trackers keep nothing but a run's beginnings.
        notes: Notes, which the trackers do not keep.
    """

    run_id: str
    source: str
    target: str = ""
    events: int = 0
    points: int = 0
    steps: tuple[int, int] | None = None
    config: int = 0
    tags: int = 0
    renamed: dict[str, str] = {}
    changed: dict[str, int] = {}
    unsent: int = 0
    notes: int = 0


def sync(
    source: str | Path | Iterable[str | Path],
    tracker: str,
    *,
    settings: Settings,
    hint: str | None = None,
    project: str | None = None,
    only: str | None = None,
    runs: Iterable[str] | None = None,
    follow: bool = False,
    again: bool = False,
    patience_s: float = 60.0,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Deliver each run of a source to a tracker, and yield what became of it.

    What the tracker has already is not sent again; a run that it has no more, as after its database was
    replaced, is sent anew. A run of a journal goes on in the tracker run that
    the training wrote to; any other run goes into one that carries its id. It may be interrupted at any
    moment, and goes on where it was when it is called again.

    Args:
        source: As `rldk.ingest.ingest_runs` takes it: one run or many.
        tracker: Name of the sink.
        settings: How the delivery behaves.
        hint: Name of the adapter.
        project: Where a new tracker run goes; by default where the tracker is configured to put it, or
            a project of the name that the run had where it comes from.
        only: Take no runs but those of this project of the source.
        runs: Take no runs but those with these ids, in which `*` and `?` stand for any text.
        follow: Go on until the run has ended: it is being written.
        again: Forget what was noted of earlier calls: read the source anew, and ask the tracker what it has.
        patience_s: How long a tracker may fail before the run is left, in seconds.
        watch: Called now and then with how far it is.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No sink or adapter has the name.
        SourceError: The source as a whole cannot be read, or holds no run.
        SettingError: More than one run is to be followed, or none of the runs is one that was asked for.
    """
    sink_type = bridge.sink(tracker)
    named = _named(source)
    there = listed(named, hint).runs
    wanted = Wanted(only, runs)
    if follow and len(there) > 1:
        raise SettingError("--follow", ", ".join(named), f"one run, not {len(there)}")
    is_unread = False
    for each in there:
        one = _One(each, sink_type, settings, project, wanted, patience_s, watch)
        for outcome in one.outcomes(follow=follow, again=again):
            is_unread = is_unread or not outcome.run_id
            yield outcome
    if not is_unread:
        wanted.check(named)


def plan(
    source: str | Path | Iterable[str | Path],
    tracker: str,
    *,
    hint: str | None = None,
    project: str | None = None,
    only: str | None = None,
    runs: Iterable[str] | None = None,
) -> Iterator[Plan]:
    """Tell what `sync` would do with each run of a source; nothing is written, and no tracker asked.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No sink or adapter has the name.
        SourceError: The source cannot be read, or holds no run.
        SettingError: None of the runs is one that was asked for.
    """
    sink_type = bridge.sink(tracker)
    wanted = Wanted(only, runs)
    named = _named(source)
    for each in listed(named, hint).runs:
        if wanted.may_be_in(each):
            yield from _planned(each, sink_type, project, wanted)
    wanted.check(named)


def _named(source: str | Path | Iterable[str | Path]) -> list[str]:
    return [str(each) for each in ([source] if isinstance(source, str | Path) else source)]


class _One:
    """The delivery of what one source holds: mostly one run."""

    def __init__(
        self,
        source: RunSource,
        sink_type: type[Sink],
        settings: Settings,
        project: str | None,
        wanted: Wanted,
        patience_s: float,
        watch: Callable[[Progress], None],
    ) -> None:
        self._source = source
        self._shown = redact_text(source.source)
        self._sink_type = sink_type
        self._settings = settings
        self._project = project
        self._wanted = wanted
        self._patience_s = patience_s
        self._watch = watch

    def outcomes(self, *, follow: bool, again: bool) -> Iterator[Outcome]:
        """Deliver each run; one that cannot be read stops no other."""
        try:
            if not self._wanted.may_be_in(self._source):
                return
            for staged in self._staged(anew=again):
                if again:
                    self._forget(staged)
                yield self._outcome(staged, follow=follow)
        except SettingError:
            raise
        except RLDKError as error:
            yield Outcome(run_id="", source=self._shown, error=str(error))

    def _staged(self, *, anew: bool = False) -> list[Staged]:
        return stage(self._source.open(), self._source.source, takes=self._wanted.takes, anew=anew)

    def _forget(self, staged: Staged) -> None:
        """Forget how far a run has come; of a copy that was made anew no tracker's cursor holds."""
        for tracker in bridge.sinks() if staged.is_copy else [self._sink_type.name]:
            CursorFile(staged.path, tracker).path.unlink(missing_ok=True)

    def _outcome(self, staged: Staged, *, follow: bool) -> Outcome:
        run_id = staged.run.run_id
        saved = CursorFile(staged.path, self._sink_type.name).load()
        told = staged.run.model_info.get("project")
        if self._is_home_of(staged) and self._project in {None, told}:
            raise SettingError(
                "--into", None, f"where in {self._sink_type.name} the copy is to go, for it is there"
            )
        is_there = self._holds(saved)
        if is_there is False:
            self._forget(staged)
        elif saved is not None and saved.closed_at >= staged.last.time:
            unsure = f"{self._sink_type.name} does not tell whether it still has {saved.source}"
            problems = (*staged.problems, *([unsure] if is_there is None else []))
            return Outcome(run_id=run_id, source=self._shown, home=saved.source, problems=problems)
        lost = saved if is_there is False else None
        report = self._report(staged, follow=follow, lost=lost)
        told = {"report": report, "lost": lost.source if lost else "", "problems": staged.problems}
        return Outcome(run_id=run_id, source=self._shown, **told)

    def _holds(self, saved: Cursor | None) -> bool | None:
        """Whether the tracker has the run of an earlier call; a bridge that cannot ask is believed."""
        if saved is None or not saved.tracker_run or not hasattr(self._sink_type, "holds"):
            return True
        return cast("type[Holding]", self._sink_type).holds(saved.target)

    def _report(self, staged: Staged, *, follow: bool, lost: Cursor | None) -> DeliveryReport:
        target = _target(self._sink_type.name, staged, self._project, lost)
        delivery = Delivery(
            staged.path, self._sink_type.create(target), run=staged.run, start=0, settings=self._settings
        )
        try:
            delivery.start()
            self._deliver(delivery, staged, follow=follow)
        finally:  # Ctrl-C comes here
            delivery.abandon()
        return delivery.report()

    def _is_home_of(self, staged: Staged) -> bool:
        """Whether the source is a run of the same tracker, which a copy without a place would meet."""
        return staged.is_copy and getattr(self._source.kind, "name", "") == self._sink_type.name

    def _deliver(self, delivery: Delivery, staged: Staged, *, follow: bool) -> None:
        delivery.wake(staged.last.seq)
        while follow and delivery.is_running() and not _has_ended(staged):
            self._look(delivery, staged)
            time.sleep(self._settings.linger_s or _GLANCE_S)
            staged = self._grown(staged)
            delivery.wake(staged.last.seq)
        with tempfile.TemporaryDirectory(prefix="rldk-sync-") as folder:
            delivery.finish(_status(staged), self._files(staged, Path(folder)), is_exit=True)
            while delivery.is_running() and not self._is_given_up(delivery.failing_s()):
                delivery.join(_GLANCE_S)
                self._look(delivery, staged)

    def _is_given_up(self, failing_s: float) -> bool:
        return failing_s > 0 and failing_s >= self._patience_s

    def _look(self, delivery: Delivery, staged: Staged) -> None:
        waiting = delivery.report().waiting
        total = staged.last.seq + 1
        is_failing = delivery.failing_s() > 0
        self._watch(Progress(staged.run.run_id, max(total - waiting, 0), total, is_failing))

    def _grown(self, staged: Staged) -> Staged:
        if not staged.is_copy:
            return staged._replace(last=journal.last_event(staged.path) or staged.last)
        return next((each for each in self._staged() if each.path == staged.path), staged)

    def _files(self, staged: Staged, into: Path) -> list[Path]:
        if staged.is_copy:
            return self._source.open().files(into)
        name = staged.path.name.removesuffix(SUFFIX)
        beside = (staged.path.with_name(name + suffix) for suffix in _SENT_ALONG)
        return [path for path in beside if path.is_file()]


def _target(tracker: str, staged: Staged, project: str | None, lost: Cursor | None) -> Target:
    saved = CursorFile(staged.path, tracker).load()
    if saved is not None and saved.tracker_run:
        return saved.target
    began_in = staged.tracker_runs.get(tracker)
    if began_in is not None and not (lost and lost.tracker_run == began_in):
        return Target(run_id=began_in, project=project)
    return Target(project=project or staged.run.model_info.get("project"))


def _status(staged: Staged) -> str | None:
    """How the run ended; None where it has not."""
    is_open = staged.is_copy or journal.is_being_written(staged.path)
    last = journal.last_event(staged.path) or staged.last  # it may have ended a moment ago
    if last.kind == "end":
        return str(last.model_info.get("status", "FINISHED"))
    return None if is_open else "KILLED"  # without a word


def _has_ended(staged: Staged) -> bool:
    if staged.is_copy:
        return staged.last.kind == "end"
    return not journal.is_being_written(staged.path)


def _planned(source: RunSource, sink_type: type[Sink], project: str | None, wanted: Wanted) -> Iterator[Plan]:
    plans: dict[str, Plan | None] = {}
    for event in source.open().events():
        if event.run_id not in plans:
            is_meant = wanted.takes(event)
            plans[event.run_id] = _begun(source.source, event, sink_type, project) if is_meant else None
        if (made := plans[event.run_id]) is not None:
            _add(made, event, sink_type)
    yield from (made for made in plans.values() if made is not None)


def _begun(source: str, first: Event, sink_type: type[Sink], project: str | None) -> Plan:
    where = _foreseen(source, first, sink_type.name, project)
    return Plan(run_id=first.run_id, source=redact_text(source), target=where)


def _foreseen(source: str, first: Event, tracker: str, project: str | None) -> str:
    path = Path(source)
    saved = CursorFile(path, tracker).load() if path.is_file() else None
    told = first.model_info.get("tracker_runs") or {}
    if saved is not None and saved.tracker_run:
        return f"run {saved.tracker_run} at {saved.source}, which it was sent to before"
    if tracker in told:
        return f"run {told[tracker]}, in which the training began"
    where = project or first.model_info.get("project")
    place = f"project {where}" if where else "the configured project"
    return f"a run that carries the id {first.run_id}, in {place}"


def _add(made: Plan, event: Event, sink_type: type[Sink]) -> None:
    shown = tracker_metrics(event)
    made.events += 1
    made.points += len(shown)
    made.notes += len(event.notes)
    made.unsent += not shown and event.kind != "run"
    made.steps = (event.step, event.step) if made.steps is None else _widened(made.steps, event.step)
    info: dict[str, Any] = event.model_info
    made.config += len(info.get("config") or ()) + len(info.get("args") or ())
    made.tags += len(info.get("tags") or ())
    for name, value in shown.items():
        kept_name, kept_value = sink_type.kept(name, value)
        if kept_name != name:
            made.renamed[name] = kept_name
        if not _is_same(value, kept_value):
            made.changed[name] = made.changed.get(name, 0) + 1


def _widened(steps: tuple[int, int], step: int) -> tuple[int, int]:
    return min(steps[0], step), max(steps[1], step)


def _is_same(value: float, kept: float) -> bool:
    return value == kept or (math.isnan(as_float(value)) and math.isnan(as_float(kept)))
