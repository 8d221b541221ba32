"""The two contracts of a tracker bridge, the names its metrics get, and how a bridge is found."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    cast,
)

import msgspec

from rldk import redact
from rldk.errors import UnknownBridgeError
from rldk.event import Event, Kind

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_logger = redact.logger(__name__)

_T = TypeVar("_T")

PREFIX: Final = "rldk/"
REPORT: Final = "_report.html"
"""As which the name of a run's report ends, the page that is shown to people where a tracker can."""

_SECTION_OF_KIND: Final[dict[Kind, str]] = {
    "resource": "system",
    "checkpoint": "checkpoint",
    "alert": "alert",
    "end": "summary",
}
_KIND_OF_SECTION: Final[dict[str, Kind]] = {section: kind for kind, section in _SECTION_OF_KIND.items()}
_OF_SEGMENT: Final = re.compile(r"\S+ seed=(?P<seed>\S*) git_sha=(?P<git_sha>.*)", re.DOTALL)
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


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which tracker run a sink is to write to; what is None is left to the tracker's configuration.

    Attributes:
        run_id: The tracker's own id of the run to go on with.
        source: Where that run is: the `source` of an earlier `Home` of it.
        project: Where a new run goes: an experiment in MLflow, a project in W&B.
        patience_s: How long the tracker may take to end the run, in seconds.
    """

    run_id: str | None = None
    source: str | None = None
    project: str | None = None
    patience_s: float | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an earlier delivery to a tracker run has noted. Events are told apart by their time.

    Attributes:
        source: Where it wrote: the `source` of its `Home`.
        at: Time of the last event that it handed over.
        base: Time of the last event that the tracker surely held when that delivery began.
    """

    source: str
    at: float
    base: float


class Sink(Protocol):
    """One tracker run that receives events.

    `attach` and `create` are quick, use no network and are called on the training thread. All else
    is called from one delivery thread, may block, and may raise: `SinkRejectedError` for events that
    would be refused again, `SinkClosedError` where the run takes no events any more,
    `SinkLostError` where it must be opened anew, `SinkBusyError` where the tracker asks for a pause,
    and anything else for what is worth another try.
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
    def create(cls, target: Target = Target()) -> Self:  # noqa: B008  # it is immutable
        """Prepare a sink that will open a run of its own, or the target's, when it is told to `open`.

        Raises:
            MissingDependencyError: The tracker's library is not installed.
        """

    @classmethod
    def kept(cls, name: str, value: float) -> tuple[str, float]:
        """Tell what the tracker gives back of a number that it is sent: the losses, as a function.

        Args:
            name: As `tracker_metrics` shows it.
            value: The number.
        """

    def open(self, run: Event) -> Home:
        """Make sure that the tracker run exists; `run` is the event that begins the segment."""

    def settle(self, receipt: Receipt | None) -> float:
        """Find out how much the open run surely holds: the time of the last event, 0 for none.

        A tracker that absorbs an exact repeat believes the receipt. One that appends has to look.

        Args:
            receipt: What an earlier delivery has noted; None where there was none.
        """

    def send(self, events: Sequence[Event]) -> None:
        """Hand over events in order; returns once the tracker has accepted them all.

        An event of kind `run` tells of one more segment, as the one given to `open` does.
        """

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Upload the files, and end the run as FINISHED, FAILED or KILLED if it is the sink's own.

        A file goes to the folder `rldk` of the run's artifacts, a folder under its own name. Without a
        status the run goes on elsewhere, and is left running.

        With `is_exit` the process is ending before training did, and the run of somebody else will
        not be ended by them any more: it gets its status too.
        """


class Adapter(Protocol):
    """A reader that gives back the events of the runs in one source.

    What others than RLDK have logged comes as events too, with the names as they stand and
    `model_info["raw"]` true (`Event.is_raw`). A run's first event is of kind `run` and may tell, in
    `model_info`: `config` (parameters by name), `tags` (by name), `name`, `notes` (its description)
    and `project`. A raw event of kind `end` is last, where the run has ended: its
    `model_info["status"]` is FINISHED, FAILED or KILLED, its metrics are those of the run's summary
    that are not the last value of a history.
    """

    name: ClassVar[str]
    problems: list[str]
    """What could not be read, a sentence each; complete when `events` is exhausted."""

    def __init__(self, source: str) -> None: ...

    def can_handle(self) -> bool:
        """Whether the source is of this adapter's kind, judged by its content; never raises."""

    def runs(self) -> list[str]:
        """Name the source of each single run in this one, in the order in which they began.

        Raises:
            SourceError: The source as a whole cannot be read.
        """

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read the events in the order in which they were written; their times only grow within a run.

        Args:
            repeats: Give what the source holds more than once as often as it holds it, wherever that is.

        Raises:
            SourceError: The source as a whole cannot be read.
        """

    def files(self, into: Path) -> list[Path]:
        """Fetch the files that belong to the run; what is not on this disk comes into an empty folder.

        Returns:
            Files and folders, as `Sink.close` takes them.

        Raises:
            SourceError: They cannot be read.
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


def logger(name: str) -> logging.Logger:
    """Give the logger of a bridge's module: no secret gets into a line of it.

    Args:
        name: The module's name.
    """
    return redact.logger(name)


def tracker_metrics(event: Event) -> dict[str, int | float]:
    """Name an event's numbers as trackers show them, such as `rldk/reward_mean`.

    Sections keep kinds and phases apart: `rldk/eval/`, `rldk/system/`, `rldk/checkpoint/`,
    `rldk/alert/`, `rldk/summary/`, and `rldk/data/` for what `data_slice` counts. A metric whose
    own name begins like a section moves to `rldk/metric/`, so that `metric_name` can tell them apart.
    What others have logged keeps its names.
    """
    if event.is_raw:
        return dict(event.metrics)
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
        time, _, step = value.partition(" ")[0].partition("@")
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
    shas: Mapping[int, str] = {}
    """The commit of each segment, empty for none; `git_sha` is the last one's."""
    seeds: Mapping[int, int | None] = {}
    """The seed of each segment; `seed` is the last one's."""

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
            shas=dict(_by_segment(tags, "git_sha")),
            seeds={n: int(seed) if seed else None for n, seed in _by_segment(tags, "seed")},
        )

    def segment_at(self, time: float) -> int:
        """Which segment wrote an event that carries this time."""
        return max((segment.number for segment in self.segments if segment.time <= time), default=0)

    def git_sha_of(self, segment: int) -> str | None:
        """The commit of a segment; None for none."""
        return self.shas.get(segment, self.git_sha) or None

    def rng_of(self, segment: int) -> dict[str, Any]:
        """What the randomness of a segment came from."""
        seed = self.seeds.get(segment, self.seed)
        return {} if seed is None else {"seed": seed}


def _by_segment(tags: Mapping[str, str], fact: str) -> Iterator[tuple[int, str]]:
    """What the tags of the segments say of the commit or the seed, where they do."""
    for key, value in tags.items():
        told = _OF_SEGMENT.fullmatch(value) if key.startswith("segment.") else None
        if told is not None:
            yield int(key.removeprefix("segment.")), told[fact]


def run_tags(run: Event) -> dict[str, str]:
    """Put the facts of the event that begins a segment into flat text, which any tracker can hold."""
    told = {key: run.model_info.get(key) for key in ("run_id", "git_sha", "trainer", "continues")}
    told |= {"seed": run.rng.get("seed"), "schema": run.v, "began": round(run.time - run.wall_time, 3)}
    step = "" if run.model_info.get("outside_training") else run.step
    # A run that is resumed may have another commit, or another seed; `git_sha` and `seed` are the last ones.
    seed, sha = ("" if told[fact] is None else told[fact] for fact in ("seed", "git_sha"))
    told[f"segment.{run.segment}"] = f"{run.time}@{step} seed={seed} git_sha={sha}"
    return {key: str(value) for key, value in told.items() if value is not None}


def health_tags(event: Event) -> dict[str, str]:
    """Put what an alert, or the run's end, says of its health into flat text, which any tracker can hold.

    Returns:
        `health`, such as `warning: kl_drift, stall`; of an alert `alert.<rule>`, such as
        `critical at step 12: <message>`; of a run that a rule has stopped `stopped_by`. Nothing of any
        other event, nor of an alert that comes from a tracker, where only its number was kept.
    """
    told: dict[str, str] = {}
    alert, health = event.model_info.get("alert"), event.model_info.get("health")
    if event.kind == "alert" and isinstance(alert, dict):
        told["health"] = _verdict(alert.get("verdict"), _names(alert.get("firing")))
        told[f"alert.{alert.get('rule')}"] = _said(alert, event.step)
    if event.kind == "end" and isinstance(health, dict):
        told["health"] = _verdict(health.get("verdict"), _names(health.get("firing")) or _over(health))
    if event.kind == "end" and event.model_info.get("stopped_by"):
        told["stopped_by"] = str(event.model_info["stopped_by"])
    return told


def _verdict(verdict: object, rules: Sequence[str]) -> str:
    return f"{verdict}: {', '.join(rules)}" if rules else str(verdict)


def _names(told: object) -> list[str]:
    return [str(name) for name in told] if isinstance(told, list | tuple) else []


def _over(health: Mapping[str, Any]) -> list[str]:
    """The rules that made the verdict what it is, where none fires any more."""
    rules = [rule for rule in health.get("rules") or () if isinstance(rule, dict)]
    worst = [rule.get("rule") for rule in rules if rule.get("severity") == health.get("verdict")]
    return [f"{name} (over)" for name in worst]


def _said(alert: Mapping[str, Any], step: int) -> str:
    severity = alert.get("severity")
    if alert.get("state") == "firing":
        return f"{severity} at step {step}: {alert.get('message')}"
    return f"over at step {step} (was {severity} since step {alert.get('since_step')})"


def event_from_tracker(
    shown: Mapping[str, int | float], *, facts: RunFacts, seq: int, step: int, time: float
) -> Event | None:
    """Rebuild an event from the numbers that a tracker holds of it; None where none is RLDK's."""
    names = {s: name for s in shown if (name := metric_name(s)) is not None}
    if not names:
        return None
    first = next(iter(names.values()))
    segment = facts.segment_at(time)
    return Event(
        kind=first.kind,
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics={n.name: shown[s] for s, n in names.items() if not n.is_data},
        rng=facts.rng_of(segment),
        data_slice={n.name: shown[s] for s, n in names.items() if n.is_data},
        model_info=_model_info(facts, first.phase, segment),
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
            rng=facts.rng_of(segment.number),
            data_slice={},
            model_info=_model_info(facts, "train", segment.number)
            | known
            | ({"outside_training": True} if segment.step is None else {}),
            notes=[],
        )
        for segment in facts.segments or (Segment(facts.began, 0, 0),)
    ]


def raw_event(
    facts: RunFacts,
    metrics: Mapping[str, int | float],
    *,
    seq: int,
    step: int,
    time: float,
    status: str | None = None,
) -> Event:
    """Make an event of what others than RLDK have logged, under the names that they gave.

    Args:
        facts: Of the run.
        metrics: The numbers.
        seq: Their place among the run's events, from 0.
        step: The step that they belong to.
        time: Seconds since the epoch.
        status: FINISHED, FAILED or KILLED for the event that ends the run; else None.
    """
    told = {"run_id": facts.run_id, "phase": "train", "segment": facts.segment_at(time), "raw": True}
    return Event(
        kind="end" if status else "metrics",
        seq=seq,
        time=time,
        step=step,
        wall_time=round(time - facts.began, 3),
        metrics=dict(metrics),
        rng={},
        data_slice={},
        model_info=told | ({"status": status} if status else {}),
        notes=[],
    )


def _model_info(facts: RunFacts, phase: str, segment: int) -> dict[str, Any]:
    told = {"run_id": facts.run_id, "git_sha": facts.git_sha_of(segment), "phase": phase, "segment": segment}
    return {k: v for k, v in told.items() if v is not None}


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried to find out whether something works.

    Attributes:
        what: What was looked at, in a word or two.
        state: `ok`; `note`, which is worth knowing; `warning`, which will cost something; `problem`, which
            does not work.
        told: What was found, a sentence without its stop; holds no secret.
        remedy: What to do about it; empty where nothing needs to be done.
    """

    what: str
    state: Literal["ok", "note", "warning", "problem"]
    told: str
    remedy: str = ""


class Probing(Protocol):
    """What a sink may offer beside its contract, for `rldk doctor`."""

    @classmethod
    def probe(cls) -> Iterator[Probed]:
        """Try whether the tracker as it is configured can be reached and written.

        It is called in a process of its own, which is ended when it takes too long: what was found until
        then counts. It leaves nothing behind that a user would meet.
        """


class Holding(Protocol):
    """What a sink may offer beside its contract, for `rldk sync`."""

    @classmethod
    def holds(cls, target: Target) -> bool | None:
        """Ask whether the tracker still has a run that was delivered earlier; nothing is written.

        Args:
            target: With the tracker's id of the run, and where it was.

        Returns:
            False where the tracker answers that it has no such run, None where it does not tell.
        """
