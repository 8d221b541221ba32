"""The smallest bridge that keeps the law: a tracker in this process, which absorbs an exact repeat."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rldk.bridge import (
    Home,
    RunFacts,
    Target,
    event_from_tracker,
    metric_name,
    run_events,
    run_tags,
    tracker_metrics,
)
from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event


class Point(NamedTuple):
    """A number in the tracker."""

    time: float
    step: int
    name: str
    value: float


class ToyRun:
    """One run in the tracker."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.points: list[Point] = []
        self.status = "RUNNING"
        self.files: list[Path] = []


TRACKER: dict[str, ToyRun] = {}


class ToySink:
    """Writes points."""

    name: ClassVar[str] = "toy"
    losses: ClassVar[tuple[str, ...]] = ("What is no number is lost.",)

    def __init__(self, target=Target()):  # noqa: B008  # it is immutable
        self.tracker_run_id = target.run_id
        self.run = ToyRun()

    @classmethod
    def attach(cls):
        """No run is ever open."""
        return

    @classmethod
    def create(cls, target=Target()):  # noqa: B008  # it is immutable
        """A sink on a run of its own, or on the target's."""
        return cls(target)

    @classmethod
    def kept(cls, name, value):
        """Everything is."""
        return name, value

    def open(self, run):
        """Find or make the run."""
        self.tracker_run_id = self.tracker_run_id or run.run_id
        self.run = TRACKER.setdefault(self.tracker_run_id, ToyRun())
        self.run.tags |= run_tags(run)
        return Home("toy", self.tracker_run_id, f"toy:{self.tracker_run_id}")

    def settle(self, receipt):
        """Believe what was noted: a repeat is absorbed."""
        return receipt.at if receipt else 0.0

    def send(self, events):
        """Add the points that are not there."""
        there = set(map(repr, self.run.points))  # of two NaN neither equals the other, but both read alike
        for event in events:
            if event.kind == "run":
                self.run.tags |= run_tags(event)
            self.run.points += [p for p in self.points(event) if repr(p) not in there]

    def points(self, event):
        """An event's points."""
        return [Point(event.time, event.step, n, v) for n, v in tracker_metrics(event).items()]

    def close(self, status, artifacts, *, is_exit=False):
        """End the run."""
        self.run.status = status or self.run.status
        self.run.files += artifacts


class ToyAdapter:
    """Reads `toy:<run id>`."""

    name: ClassVar[str] = "toy"

    def __init__(self, source):
        self.source = str(source)
        self.problems: list[str] = []

    def can_handle(self):
        """Whether the source has this form."""
        return self.source.startswith("toy:")

    def runs(self):
        """The one run."""
        return [self.source]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """The events of the segments' beginnings, and of the points, in the order of their time."""
        run = self.run()
        facts = RunFacts.from_tags(run.tags)
        events = [*run_events(facts), *self.rebuilt(run.points, facts)]
        yield from sorted(events, key=lambda event: event.time)

    def rebuilt(self, points, facts):
        """One event for what shares time, step, kind and phase."""
        moments = {}
        for point in points:
            name = metric_name(point.name)
            key = (point.time, point.step, name.kind, name.phase)
            moments.setdefault(key, {})[point.name] = point.value
        for (time, step, _, _), shown in moments.items():
            yield event_from_tracker(shown, facts=facts, seq=0, step=step, time=time)

    def files(self, into):
        """Copies of the files."""
        for path in self.run().files:
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, Path(into) / path.name)
        return list(Path(into).iterdir())

    def run(self):
        """What the tracker holds."""
        if self.source.removeprefix("toy:") not in TRACKER:
            raise SourceError(self.source, "there is no such run", "check its id")
        return TRACKER[self.source.removeprefix("toy:")]
