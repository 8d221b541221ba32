"""How are the events and the files of MLflow runs read back."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

import msgspec

from rldk.bridge import RunFacts
from rldk.causes import unreached
from rldk.errors import SourceError
from rldk_mlflow import client, database, history, sqlite_tables, told
from rldk_mlflow.asked import Asked
from rldk_mlflow.names import unescape
from rldk_mlflow.note import without_health
from rldk_mlflow.place import Place, database_at, source_of
from rldk_mlflow.store import ACTIVE, ENDED, Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event
    from rldk_mlflow.store import Run

_WHETHER_IT_RUNS = "check that the tracking server runs, then try again"


class _UnreadableRunError(SourceError):
    """A run that cannot be read, beside which others can."""


class MLflowAdapter:
    """A reader of one MLflow run, of all the runs of an experiment, or of a whole database.

    It takes `runs:/<run id>`, which looks where MLflow itself is configured to,
    `<tracking URI>#runs/<run id>` and `<tracking URI>#experiments/<id or name>`; the addresses of the
    pages in MLflow's UI are of these forms. The tracking URI of a database stands alone for all runs of
    its active experiments, as the path of a SQLite file does. A database is read itself, whichever MLflow
    wrote it; for SQLite, MLflow need not be installed.
    """

    name: ClassVar[str] = "mlflow"

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)
        self._place = Place.parse(self._source)

    def can_handle(self) -> bool:
        """Whether the source has the form of an MLflow run or experiment, or is a file of MLflow's."""
        return self._place is not None or sqlite_tables.is_mlflow(Path(self._source))

    def runs(self) -> list[str]:
        """Name the source of each run of the experiment that is not deleted; a run's is its own.

        Raises:
            SourceError: The experiment cannot be read.
            MissingDependencyError: MLflow, or the driver of the database, is not installed.
        """
        place = self._must_place()
        if place.run_id is not None:
            return [self._source]
        with self._reading() as store:
            experiment = None if place.experiment is None else self._experiment(store, place.experiment)
            return [source_of(place.uri or "", run_id) for run_id in store.run_ids(experiment)]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read everything in the order of its time, run by run: RLDK's events, and what others logged.

        A run's histories are held in memory, at most 24 bytes a point, until its last event is read.

        Raises:
            SourceError: The run cannot be read, or holds no metric and is none of RLDK's.
            MissingDependencyError: MLflow, or the driver of the database, is not installed.
        """
        del repeats  # a database holds no point twice
        if self._must_place().run_id is not None:
            yield from self._run_events()
            return
        for source in self.runs():
            run = MLflowAdapter(source)
            try:
                yield from run.events()
            except _UnreadableRunError as error:
                self.problems.append(str(error))
            self.problems += [f"{client.without_secrets(source)}: {problem}" for problem in run.problems]

    def files(self, into: Path) -> list[Path]:
        """Fetch the run's artifacts; those in a folder of this machine stay where they are.

        Raises:
            SourceError: They cannot be read, or the source is no single run.
            MissingDependencyError: MLflow is not installed, and they are not on this machine.
        """
        run_id = self._must_place().run_id
        if run_id is None:
            raise self._error("it is an experiment", "give one of its runs")
        with self._reading() as store:
            home = client.local_path(store.run(run_id).info.artifact_uri)
        if home is None:
            with self._asking() as asked:
                self._download(asked, run_id, into)
        elif run_id not in home.parts:
            reason = f"its artifacts are said to be in {home}, which is no folder of this run"
            raise self._error(reason, "check the tracking server")
        top = into if home is None else home
        return sorted(unpacked(top)) if top.exists() else []

    def _download(self, asked: Any, run_id: str, into: Path) -> None:  # noqa: ANN401  # MlflowClient is not typed
        for entry in self._listed(asked, run_id, None):
            asked.download_artifacts(run_id, entry.path, str(into))

    def _listed(self, asked: Any, run_id: str, folder: str | None) -> list[Any]:  # noqa: ANN401  # the same
        """List a folder whose files, at any depth, would be written where they belong."""
        entries = list(asked.list_artifacts(run_id, folder))
        for entry in entries:
            path = PurePosixPath(entry.path)
            if path.parent != PurePosixPath(folder or ".") or path.name in {"", ".."}:
                reason = f"the artifact {entry.path!r} would be written outside its folder"
                raise self._error(reason, "rename it in the artifact store")
            if entry.is_dir:
                self._listed(asked, run_id, entry.path)
        return entries

    def _run_events(self) -> Iterator[Event]:
        with self._reading() as store:
            run = store.run(self._must_place().run_id or "")
            self._check(run)
            experiment = store.experiment(run.info.experiment_id)
            series = store.series(run)
        self.problems += history.doubts(series)
        facts = self._facts(run, series)
        is_raw = logged_by_others(run, series)
        events = history.events(series, facts, self.problems.append)
        project = experiment.name if experiment else ""
        last = first = telling(next(events), run, project, is_raw=is_raw)
        yield first
        for last in events:
            yield last
        if run.info.status in ENDED:
            yield history.end_event(facts, run.info.status, run.info.end_time or 0, last)

    def _check(self, run: Run) -> None:
        if run.info.lifecycle_stage != ACTIVE:
            remedy = f"restore it: mlflow runs restore --run-id {run.info.run_id}"
            raise self._error("the run is deleted", remedy)
        if not run.histories() and f"{told.OURS}run_id" not in run.data.tags:
            reason = f"the run {run.info.run_id} holds no metrics"
            raise self._error(reason, "give a run in which something was logged", _UnreadableRunError)

    def _facts(self, run: Run, series: list[history.Series]) -> RunFacts:
        tags = {k.removeprefix(told.OURS): v for k, v in run.data.tags.items() if k.startswith(told.OURS)}
        try:
            return RunFacts.from_tags({"run_id": run.info.run_id, "began": began_at(run, series)} | tags)
        except ValueError as error:
            reason = f"one of its rldk.* tags was edited: {error}"
            raise self._error(reason, "correct the tag", _UnreadableRunError) from error

    def _experiment(self, store: Store, known: str) -> str:
        found = store.experiment(known) if known.isdecimal() else None
        named = map(store.named, dict.fromkeys((known, unquote(known))))
        found = found or next(filter(None, named), None)
        if found is None:
            raise self._error(f"there is no experiment {known!r}", "check its name or id")
        if found.lifecycle_stage != ACTIVE:
            remedy = f"restore it: mlflow experiments restore -x {found.experiment_id}"
            raise self._error(f"the experiment {known!r} is deleted", remedy)
        return found.experiment_id

    @contextmanager
    def _reading(self) -> Iterator[Store]:
        uri = self._uri()
        if not client.is_database(uri):
            with self._asking() as asked:
                yield Asked(asked)
            return
        try:
            with database.opened(uri) as store:
                yield store
        except StoreError as error:
            raise self._error(str(error), error.remedy) from error
        except OSError as error:
            raise self._error(str(error), "check that the database server runs, then try again") from error

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        client.require("reading from MLflow")
        mlflow = client.library()
        no_answer = importlib.import_module("google.protobuf.json_format").Error
        uri = self._uri()
        try:
            self._must_be_there(uri)
            with client.leash():
                yield client.connect(uri)
        except mlflow.exceptions.MlflowException as error:
            if reason := unreached(error):
                raise self._error(reason, _WHETHER_IT_RUNS) from error
            remedy = "check the run id, the tracking URI, and MLFLOW_TRACKING_USERNAME and _PASSWORD"
            raise self._error(str(error), remedy) from error
        except no_answer as error:
            reason = f"what it answers is nothing of MLflow's ({error})"
            raise self._error(reason, "check that this is the address of a tracking server") from error
        except OSError as error:
            raise self._error(str(error), _WHETHER_IT_RUNS) from error

    def _must_place(self) -> Place:
        place = self._place or database_at(self._source)
        if place is None:
            remedy = "give runs:/<run id>, <tracking URI>#runs/<run id> or <tracking URI>#experiments/<name>"
            raise self._error("it names no MLflow run", remedy)
        return place

    def _uri(self) -> str:
        return self._must_place().reachable_uri()

    def _must_be_there(self, uri: str) -> None:
        """Refuse a folder that MLflow would make."""
        path = client.local_path(uri)
        if path is not None and not path.exists():
            raise self._error(f"there is no {path}", "check the path")

    def _error(self, reason: str, remedy: str, kind: type[SourceError] = SourceError) -> SourceError:
        return kind(client.without_secrets(self._source), client.without_secrets(reason), remedy)


def logged_by_others(run: Run, series: list[history.Series]) -> bool:
    """Whether RLDK did not record the run; it may have copied it."""
    is_ours = "rldk.run_id" in run.data.tags or not all(each.is_raw for each in series)
    return not is_ours or run.data.tags.get(told.RAW) == "true"


def began_at(run: Run, series: list[history.Series]) -> str:
    """A time before every point, for a run that does not tell RLDK's: one may be logged with any time."""
    first = history.first_timestamp(series)
    started = run.info.start_time or 0
    return str((started if first is None else min(started, first - 1)) / 1000)


def telling(first: Event, run: Run, project: str, *, is_raw: bool) -> Event:
    """Add what MLflow shows of the run to the event that begins it."""
    tags = run.data.tags
    shown: dict[str, Any] = {
        "config": {unescape(key): value for key, value in run.data.params.items()},
        "tags": {unescape(k): v for k, v in tags.items() if not k.startswith((told.OURS, told.SYSTEM))},
        "name": tags.get("mlflow.runName"),
        "notes": without_health(tags.get(told.NOTES, "")),
        "project": project,
        "raw": is_raw,
    }
    known = first.model_info | {key: value for key, value in shown.items() if value}
    return msgspec.structs.replace(first, model_info=known)


def unpacked(top: Path) -> Iterator[Path]:
    """Give a run's top-level artifacts as a sink takes them: what lies in RLDK's own folder, one by one."""
    for path in top.iterdir():
        if path.name == told.FOLDER and path.is_dir():
            yield from path.iterdir()  # a sink puts them there again
        else:
            yield path


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = MLflowAdapter
