"""The two contracts of a tracker bridge, the names its metrics get, and how a bridge is found."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol, Self, TypeVar, cast

import msgspec

from rldk.errors import UnknownBridgeError
from rldk.event import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

PREFIX: Final = "rldk/"

_SECTION_OF_KIND: Final[dict[Kind, str]] = {
    "resource": "system",
    "checkpoint": "checkpoint",
    "alert": "alert",
    "end": "summary",
}
_KIND_OF_SECTION: Final[dict[str, Kind]] = {section: kind for kind, section in _SECTION_OF_KIND.items()}
_RESERVED: Final = frozenset({*_KIND_OF_SECTION, "eval", "data", "metric", "step", "seq"})


class Home(msgspec.Struct, frozen=True):
    """Where a run lives in one tracker.

    Attributes:
        tracker: Name of the bridge, such as `mlflow`.
        run_id: The tracker's own id of the run.
        source: What `ingest_runs` takes to read the run back; holds no secret.
        url: The run's page, where the tracker has one.
    """

    tracker: str
    run_id: str
    source: str
    url: str | None = None


class Sink(Protocol):
    """One tracker run that receives events.

    `attach` and `create` are quick, use no network and are called on the training thread. All else
    is called from one delivery thread, may block, and may raise: `SinkRejectedError` for events that
    would be refused again, `SinkClosedError` where the run takes no events any more, and anything
    else for what is worth another try.
    """

    name: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    """What this tracker cannot keep of an event, a sentence each."""
    tracker_run_id: str | None
    """The tracker's own id of the run, once it is known."""

    @classmethod
    def attach(cls) -> Self | None:
        """Take the tracker's run that is active in this thread; None where there is none."""

    @classmethod
    def create(cls) -> Self:
        """Prepare a sink that will open a run of its own, when it is told to `open`.

        Raises:
            MissingDependencyError: The tracker's library is not installed.
        """

    def open(self, run: Event) -> Home:
        """Make sure that the tracker run exists; `run` is the event that begins the segment."""

    def send(self, events: Sequence[Event]) -> None:
        """Hand over events in order; returns once the tracker has accepted them all."""

    def close(self, status: str, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Upload the files, and end the run as FINISHED, FAILED or KILLED if it is the sink's own.

        With `is_exit` the process is ending before training did, and the run of somebody else will
        not be ended by them any more: it gets its status too.
        """


class Adapter(Protocol):
    """A reader that gives back the events of the runs in one source."""

    name: ClassVar[str]
    problems: list[str]
    """What could not be read, a sentence each; complete when `events` is exhausted."""

    def __init__(self, source: str) -> None: ...

    def can_handle(self) -> bool:
        """Whether the source is of this adapter's kind, judged by its content; never raises."""

    def events(self) -> Iterator[Event]:
        """Read the events in the order in which they were written.

        Raises:
            SourceError: The source as a whole cannot be read.
        """


def sinks() -> dict[str, type[Sink]]:
    """Every installed sink by name; their trackers are not imported."""
    return cast("dict[str, type[Sink]]", _load("rldk.sinks"))


def adapters() -> dict[str, type[Adapter]]:
    """Every installed adapter by name."""
    return cast("dict[str, type[Adapter]]", _load("rldk.adapters"))


def sink(name: str) -> type[Sink]:
    """Find one sink.

    Raises:
        UnknownBridgeError: None has this name.
    """
    return _pick("tracker", name, sinks())


def adapter(name: str) -> type[Adapter]:
    """Find one adapter.

    Raises:
        UnknownBridgeError: None has this name.
    """
    return _pick("adapter", name, adapters())


def _load(group: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda p: p.name):
        try:
            found[point.name] = point.load()
        except ImportError as error:  # somebody's broken plug-in is nobody else's trouble
            _logger.warning("bridge %s (%s) cannot be loaded: %s", point.name, point.value, error)
    return found


def _pick(kind: str, name: str, installed: Mapping[str, _T]) -> _T:
    if name not in installed:
        raise UnknownBridgeError(kind, name, installed)
    return installed[name]


def tracker_metrics(event: Event) -> dict[str, int | float]:
    """Name an event's numbers as trackers show them, such as `rldk/reward_mean`.

    Sections keep kinds and phases apart: `rldk/eval/`, `rldk/system/`, `rldk/checkpoint/`,
    `rldk/alert/`, `rldk/summary/`, and `rldk/data/` for what `data_slice` counts. A metric whose
    own name begins like a section moves to `rldk/metric/`, so that `metric_name` can tell them apart.
    """
    section = _SECTION_OF_KIND.get(event.kind) or ("eval" if event.phase == "eval" else "")
    head = f"{PREFIX}{section}/" if section else PREFIX
    named = {f"{head}{_escape_section(name)}": value for name, value in event.metrics.items()}
    counted = {k: v for k, v in event.data_slice.items() if isinstance(v, int | float)}
    return named | {f"{head}data/{name}": value for name, value in counted.items()}


def _escape_section(name: str) -> str:
    return f"metric/{name}" if name.split("/", 1)[0] in _RESERVED else name


class MetricName(msgspec.Struct, frozen=True):
    """What the name of a number in a tracker says: the inverse of `tracker_metrics`."""

    kind: Kind
    phase: str
    is_data: bool
    name: str


def metric_name(shown: str) -> MetricName | None:
    """Read a name as `tracker_metrics` wrote it; None for one that is not RLDK's."""
    if not shown.startswith(PREFIX):
        return None
    section, _, rest = shown.removeprefix(PREFIX).partition("/")
    kind: Kind = _KIND_OF_SECTION.get(section, "metrics")
    phase = "eval" if section == "eval" else "train"
    inner = rest if section in _KIND_OF_SECTION or section == "eval" else shown.removeprefix(PREFIX)
    first, _, tail = inner.partition("/")
    if first in {"data", "metric"} and tail:
        return MetricName(kind, phase, is_data=first == "data", name=tail)
    return MetricName(kind, phase, is_data=False, name=inner)


class Segment(NamedTuple):
    """One start of the process: when, its number, and the step from which training went on.

    The step is None for an evaluation outside training, from which nothing went on.
    """

    time: float
    number: int
    step: int | None

    @classmethod
    def parse(cls, tag: str, value: str) -> Segment:
        """Read the tag that `run_tags` wrote for it."""
        time, _, step = value.partition("@")
        return cls(float(time), int(tag.removeprefix("segment.")), int(step) if step else None)


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What every event of a run repeats, as a tracker keeps it once: tags in MLflow, config in W&B."""

    run_id: str
    git_sha: str | None = None
    seed: int | None = None
    trainer: str | None = None
    continues: str | None = None
    """The run whose checkpoint this one resumed, where it is another one."""
    began: float = 0.0
    """When the run's first segment began, seconds since the epoch."""
    segments: tuple[Segment, ...] = ()
    """Each start of the training process that the tracker saw."""

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> RunFacts:
        """Read back what `run_tags` gave for each segment of a run.

        Raises:
            KeyError: `run_id` is not among them.
            ValueError: Somebody has edited a number.
        """
        starts = (Segment.parse(key, value) for key, value in tags.items() if key.startswith("segment."))
        return cls(
            run_id=tags["run_id"],
            git_sha=tags.get("git_sha"),
            seed=int(tags["seed"]) if "seed" in tags else None,
            trainer=tags.get("trainer"),
            continues=tags.get("continues"),
            began=float(tags.get("began", 0.0)),
            segments=tuple(sorted(starts)),
        )

    def segment_at(self, time: float) -> int:
        """Which segment wrote an event that carries this time."""
        return max((segment.number for segment in self.segments if segment.time <= time), default=0)


def run_tags(run: Event) -> dict[str, str]:
    """Put the facts of the event that begins a segment into flat text, which any tracker can hold."""
    told = {key: run.model_info.get(key) for key in ("run_id", "git_sha", "trainer", "continues")}
    told |= {"seed": run.rng.get("seed"), "schema": run.v, "began": round(run.time - run.wall_time, 3)}
    step = "" if run.model_info.get("outside_training") else run.step
    told[f"segment.{run.segment}"] = f"{run.time}@{step}"
    return {key: str(value) for key, value in told.items() if value is not None}


def event_from_tracker(
    shown: Mapping[str, int | float], *, facts: RunFacts, seq: int, step: int, time: float
) -> Event | None:
    """Rebuild an event from the numbers that a tracker holds of it; None where none is RLDK's."""
    names = {s: name for s in shown if (name := metric_name(s)) is not None}
    if not names:
        return None
    first = next(iter(names.values()))
    return Event(
        kind=first.kind,
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics={n.name: shown[s] for s, n in names.items() if not n.is_data},
        rng={} if facts.seed is None else {"seed": facts.seed},
        data_slice={n.name: shown[s] for s, n in names.items() if n.is_data},
        model_info=_model_info(facts, first.phase, facts.segment_at(time)),
        notes=[],
    )


def run_events(facts: RunFacts) -> list[Event]:
    """Rebuild the events that began each segment of a run, as far as a tracker keeps them."""
    told = {"trainer": facts.trainer, "continues": facts.continues}
    known = {k: v for k, v in told.items() if v is not None}
    return [
        Event(
            kind="run",
            time=segment.time,
            step=segment.step or 0,
            wall_time=round(segment.time - facts.began, 3),
            metrics={},
            rng={} if facts.seed is None else {"seed": facts.seed},
            data_slice={},
            model_info=_model_info(facts, "train", segment.number)
            | known
            | ({"outside_training": True} if segment.step is None else {}),
            notes=[],
        )
        for segment in facts.segments or (Segment(facts.began, 0, 0),)
    ]


def _model_info(facts: RunFacts, phase: str, segment: int) -> dict[str, Any]:
    told = {"run_id": facts.run_id, "git_sha": facts.git_sha, "phase": phase, "segment": segment}
    return {k: v for k, v in told.items() if v is not None}
