"""How do events reach trackio: a row for each, in the project's database on this machine."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from rldk.bridge import PREFIX, Home, Probed, Target, health_tags, run_tags, tracker_metrics
from rldk.errors import MissingDependencyError, SinkBusyError, SinkLostError
from rldk.event import as_float

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trackio.run import Run

    from rldk.bridge import Receipt, Sink
    from rldk.event import Event

NAME: Final = "trackio"
OURS: Final = "rldk"
RAW: Final = "rldk-raw"

_LEVELS: Final[dict[float, str]] = {1: "info", 2: "warn", 3: "error"}
_INT64: Final = range(-(2**63), 2**63)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")


class TrackioSink:
    """A run of trackio, the one that is active or one of our own.

    A row's id is the event's: trackio ignores a row whose id it has, so that a batch that is sent again
    changes nothing. trackio's own `Run.log` would give each row the time at which it was flushed.
    """

    name: ClassVar[str] = NAME
    losses: ClassVar[tuple[str, ...]] = (
        "An integer beyond 64 bits reads back as the nearest float, or as an infinity.",
        "True and False read back as 1 and 0.",
        "Notes are not kept, but for those of alerts.",
        "Of data_slice only numbers are kept, and of rng only the seed.",
        "Of model_info only run_id, git_sha, phase and segment are kept, and the trainer once.",
        "An event without a number is not kept, but for the run's beginning.",
        "Tags and notes of runs that others have recorded elsewhere are not kept.",
    )

    def __init__(self, run: Run | None = None, target: Target = Target()) -> None:  # noqa: B008  # immutable
        self.tracker_run_id: str | None = target.run_id if run is None else run.id
        self._attached = run
        self._target = target
        self._project = self._name = ""

    @classmethod
    def attach(cls) -> Self | None:
        """Take the run of `trackio.init` in this thread; None where there is none, or it is on a server."""
        current = sys.modules.get("trackio.context_vars")
        run = None if current is None else current.current_run.get()
        return None if run is None or run.url is not None else cls(run)

    @classmethod
    def create(cls, target: Target = Target()) -> Self:  # noqa: B008  # it is immutable
        """Prepare a sink for a run of its own, or the target's.

        Raises:
            MissingDependencyError: trackio is not installed.
        """
        if find_spec("trackio") is None:
            raise MissingDependencyError("The trackio sink", "trackio")
        return cls(target=target)

    @classmethod
    def kept(cls, name: str, value: float) -> tuple[str, float]:
        """Any name is kept, and any number as trackio's JSON holds it."""
        return name, _sayable(value)

    @classmethod
    def probe(cls) -> Iterator[Probed]:
        """Tell whether trackio's folder can be written, for `rldk doctor`."""
        if find_spec("trackio") is None:
            yield Probed(
                what="library", state="note", told="trackio is not installed", remedy="pip install trackio"
            )
            return
        from trackio.utils import TRACKIO_DIR

        there = next(folder for folder in (TRACKIO_DIR, *TRACKIO_DIR.absolute().parents) if folder.exists())
        if there.is_dir() and os.access(there, os.W_OK):
            yield Probed(what="folder", state="ok", told=f"{TRACKIO_DIR} can be written")
        else:
            told, remedy = f"{there} cannot be written", "set TRACKIO_DIR to a folder that can"
            yield Probed(what="folder", state="problem", told=told, remedy=remedy)

    def open(self, run: Event) -> Home:
        """Write the row that begins a segment, and the run's facts into its config.

        Raises:
            SinkBusyError: The script's own first row is on its way, with a config that would replace ours.
        """
        if self._attached is not None:
            self._project, self._name = self._attached.project, self._attached.name
            self._attached.config.update(
                _facts(run, is_own=False)
            )  # its first row has them, if it is to come
            if self._attached._config_logged and self._config_there() is None:  # noqa: SLF001  # nothing else tells
                raise SinkBusyError("trackio has yet to write its first row", 0.5)
        else:
            there = self._target.source
            self._project = self._target.project or os.environ.get("TRACKIO_PROJECT", OURS)
            if there:  # `<project>.db#<run id>`, as an earlier Home said
                self._project = Path(there.rpartition("#")[0]).stem
            self._name = str(run.model_info.get("name") or run.run_id)
            self.tracker_run_id = self.tracker_run_id or run.run_id
        self.send([run])
        database = _storage().get_project_db_path(self._project).absolute()
        return Home(NAME, self._run_id, f"{database}#{self._run_id}")

    def settle(self, receipt: Receipt | None) -> float:
        """Believe the receipt: what is sent again is ignored."""
        return receipt.at if receipt else 0.0

    def send(self, events: Sequence[Event]) -> None:
        """Write a row for each event that holds a number or begins a segment, all of them or none."""
        rows = [event for event in events if event.kind == "run" or tracker_metrics(event)]
        told: dict[str, Any] = {}
        for event in events:
            told |= _facts(event, is_own=self._attached is None)
        if not rows:
            return
        _storage().bulk_log(
            project=self._project,
            run=self._name,
            run_id=self._run_id,
            metrics_list=[{k: _sayable(v) for k, v in tracker_metrics(event).items()} for event in rows],
            steps=[event.step for event in rows],
            timestamps=[_iso(event.time) for event in rows],
            log_ids=[self._row_id(event) for event in rows],
            config=self._config(told) if told else None,
        )
        self._alert([event for event in rows if event.kind == "alert" and not event.is_raw])

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Log files and folders as one artifact, and the status as config: trackio's runs have none."""
        del is_exit
        if not self._name:
            return
        self._log_files([path for path in artifacts if path.exists()])
        config = self._config({f"{PREFIX}status": status} if status else {})
        _storage().bulk_log(  # a config goes with a row: the empty one of this id is written once
            project=self._project,
            run=self._name,
            run_id=self._run_id,
            metrics_list=[{}],
            steps=[0],
            log_ids=[f"{OURS}:{self._run_id}:config"],
            config=config,
        )

    @property
    def _run_id(self) -> str:
        if self.tracker_run_id is None:
            raise SinkLostError("the trackio run is not open")
        return self.tracker_run_id

    def _row_id(self, event: Event) -> str:
        whose = RAW if event.is_raw else OURS
        return f"{whose}:{self._run_id}:{round(event.time * 1000)}:{event.seq}"

    def _config(self, told: dict[str, Any]) -> dict[str, Any]:
        """The whole config with something added: trackio replaces all of it."""
        there = self._config_there()
        if self._attached is not None:
            self._attached.config.update(told)  # which trackio writes with the script's own first row
            return {**self._attached.config, **(there or {}), **told}
        return {"_Created": datetime.now(UTC).isoformat(), "_Group": None, **(there or {}), **told}

    def _config_there(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = _storage().get_run_config(
            self._project, run=self._name, run_id=self._run_id
        )
        return found

    def _alert(self, alerts: Iterable[Event]) -> None:
        said = [
            (event, rule, _LEVELS[level])
            for event in alerts
            for rule, level in event.metrics.items()
            if level in _LEVELS
        ]
        _storage().bulk_alert(
            project=self._project,
            run=self._name,
            run_id=self._run_id,
            titles=[rule for _, rule, _ in said],
            texts=[" ".join(event.notes) or None for event, _, _ in said],
            levels=[level for _, _, level in said],
            steps=[event.step for event, _, _ in said],
            timestamps=[_iso(event.time) for event, _, _ in said],
            alert_ids=[f"{self._row_id(event)}:{rule}" for event, rule, _ in said],
        )

    def _log_files(self, paths: Sequence[Path]) -> None:
        if not paths:
            return
        import trackio

        artifact = trackio.Artifact(_NOT_IN_NAMES.sub("-", f"{OURS}-{self._run_id}"), type=OURS)
        for path in paths:
            (artifact.add_dir if path.is_dir() else artifact.add_file)(path, name=path.name)
        _storage().commit_artifact_version(  # as Run.log_artifact, which needs a Run, and that asks the hub
            project=self._project,
            name=artifact.name,
            type=artifact.type,
            description=None,
            manifest=artifact._build_manifest(self._project),  # noqa: SLF001  # there is no other way
            metadata=None,
            aliases=None,
            run_name=self._name,
            run_id=self._run_id,
        )


def _facts(event: Event, *, is_own: bool) -> dict[str, Any]:
    """What the config tells of a run because of an event."""
    if event.kind != "run":
        return {f"{PREFIX}{name}": said for name, said in health_tags(event).items()}
    told: dict[str, Any] = {f"{PREFIX}{name}": said for name, said in run_tags(event).items()}
    if is_own and "args" in event.model_info:
        told[f"{PREFIX}args"] = event.model_info["args"]
    if event.is_raw:
        told |= {f"{PREFIX}raw": True, **(event.model_info.get("config") or {})}
    return told


def _storage() -> Any:  # noqa: ANN401  # trackio's storage is not typed
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage


def _sayable(value: float) -> float:
    whole = int(value) if isinstance(value, bool) else value
    return whole if not isinstance(whole, int) or whole in _INT64 else as_float(whole)


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


if TYPE_CHECKING:
    _conforms: type[Sink] = TrackioSink
