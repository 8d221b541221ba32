"""How are the events and the files of MLflow runs read back."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote

import msgspec

from rldk.bridge import RunFacts
from rldk.errors import SourceError
from rldk_mlflow import client, history, told
from rldk_mlflow.names import unescape
from rldk_mlflow.place import Place, source_of
from rldk_mlflow.points import NONFINITE_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rldk.event import Event

_PAGE_S: Final = 60.0
_PAGE_RETRIES: Final = 2
_RUNS_A_PAGE: Final = 500
ENDED: Final = frozenset({"FINISHED", "FAILED", "KILLED"})


class _UnreadableRunError(SourceError):
    """A run that cannot be read, beside which others can."""


class MLflowAdapter:
    """A reader of one MLflow run, or of all the runs of an experiment.

    It takes `runs:/<run id>`, which looks where MLflow itself is configured to,
    `<tracking URI>#runs/<run id>` and `<tracking URI>#experiments/<id or name>`; the addresses of the
    pages in MLflow's UI are of these forms.
    """

    name: ClassVar[str] = "mlflow"

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)
        self._place = Place.parse(self._source)

    def can_handle(self) -> bool:
        """Whether the source has the form of an MLflow run or experiment; asks nobody."""
        return self._place is not None

    def runs(self) -> list[str]:
        """Name the source of each run of the experiment that is not deleted; a run's is its own.

        Raises:
            SourceError: The experiment cannot be read.
            MissingDependencyError: MLflow is not installed.
        """
        if self._must_place().run_id is not None:
            return [self._source]
        with self._reading() as asked:
            uri = self._must_place().uri or ""
            return [source_of(uri, run.info.run_id) for run in self._search(asked)]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read everything in the order of its time, run by run: RLDK's events, and what others logged.

        A run's histories are held in memory, 24 bytes a point, until its last event is read.

        Raises:
            SourceError: The run cannot be read, or holds no metric.
            MissingDependencyError: MLflow is not installed.
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
            MissingDependencyError: MLflow is not installed.
        """
        run_id = self._must_place().run_id
        if run_id is None:
            raise self._error("it is an experiment", "give one of its runs")
        with self._reading() as asked:
            home = client.local_path(asked.get_run(run_id).info.artifact_uri)
            if home is None:
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
        with self._reading() as asked:
            run = asked.get_run(self._must_place().run_id)
            if run.info.lifecycle_stage != "active":
                raise self._error(
                    "the run is deleted", f"restore it: mlflow runs restore --run-id {run.info.run_id}"
                )
            project = asked.get_experiment(run.info.experiment_id).name
            series = self._series(asked, run)
        facts = self._facts(run, series)
        is_raw = logged_by_others(run, series)
        events = history.events(series, facts, self.problems.append)
        last = first = telling(next(events), run, project, is_raw=is_raw)
        yield first
        for last in events:
            yield last
        if run.info.status in ENDED:
            yield history.end_event(facts, run.info.status, run.info.end_time or 0, last)

    def _series(self, asked: Any, run: Any) -> list[history.Series]:  # noqa: ANN401  # MLflow is not typed
        keys = [key for key in sorted(run.data.metrics) if unescape(key) != NONFINITE_COUNT]
        if not keys:
            reason = f"the run {run.info.run_id} holds no metrics"
            raise self._error(reason, "give a run in which something was logged", _UnreadableRunError)
        with client.leash(_PAGE_S, _PAGE_RETRIES):
            return [history.Series.of(key, asked.get_metric_history(run.info.run_id, key)) for key in keys]

    def _facts(self, run: Any, series: list[history.Series]) -> RunFacts:  # noqa: ANN401  # the same
        tags = {k.removeprefix(told.OURS): v for k, v in run.data.tags.items() if k.startswith(told.OURS)}
        try:
            return RunFacts.from_tags({"run_id": run.info.run_id, "began": began_at(run, series)} | tags)
        except ValueError as error:
            reason = f"one of its rldk.* tags was edited: {error}"
            raise self._error(reason, "correct the tag", _UnreadableRunError) from error

    def _search(self, asked: Any) -> Iterator[Any]:  # noqa: ANN401  # the same
        experiment = self._experiment(asked)
        asking = {"max_results": _RUNS_A_PAGE, "order_by": ["attributes.start_time ASC"]}
        page = asked.search_runs([experiment], **asking)
        yield from page
        while page.token:
            page = asked.search_runs([experiment], page_token=page.token, **asking)
            yield from page

    def _experiment(self, asked: Any) -> str:  # noqa: ANN401  # the same
        known = self._must_place().experiment or ""
        named = map(asked.get_experiment_by_name, dict.fromkeys((known, unquote(known))))
        found = self._by_id(asked, known) or next(filter(None, named), None)
        if found is None:
            raise self._error(f"there is no experiment {known!r}", "check its name or id")
        if found.lifecycle_stage != "active":
            remedy = f"restore it: mlflow experiments restore -x {found.experiment_id}"
            raise self._error(f"the experiment {known!r} is deleted", remedy)
        return str(found.experiment_id)

    def _by_id(self, asked: Any, known: str) -> Any:  # noqa: ANN401  # the same
        if not known.isdecimal():
            return None
        try:
            return asked.get_experiment(known)
        except client.library().exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        client.require("reading from MLflow")
        mlflow = client.library()
        uri = self._uri()
        try:
            self._must_not_change(uri)
            with client.leash():
                yield client.connect(uri)
        except mlflow.exceptions.MlflowException as error:
            remedy = "check the run id, the tracking URI, and MLFLOW_TRACKING_USERNAME and _PASSWORD"
            raise self._error(str(error), remedy) from error
        except OSError as error:
            raise self._error(str(error), "check that the tracking server runs, then try again") from error

    def _must_place(self) -> Place:
        if self._place is None:
            remedy = "give runs:/<run id>, <tracking URI>#runs/<run id> or <tracking URI>#experiments/<name>"
            raise self._error("it names no MLflow run", remedy)
        return self._place

    def _uri(self) -> str:
        return self._must_place().reachable_uri()

    def _must_not_change(self, uri: str) -> None:
        """Refuse a store that MLflow would create, fill or migrate on opening it."""
        path = client.local_path(uri)
        if path is not None and not path.exists():
            raise self._error(f"there is no {path}", "check the path")
        version, expected = client.schema_versions(uri) if client.is_database(uri) else (None, None)
        if version != expected:
            reason = f"its schema is {version or 'not that of MLflow'}, the installed MLflow reads {expected}"
            raise self._error(reason, "check the path, or read it with the MLflow version that wrote it")

    def _error(self, reason: str, remedy: str, kind: type[SourceError] = SourceError) -> SourceError:
        return kind(client.without_secrets(self._source), client.without_secrets(reason), remedy)


def logged_by_others(run: Any, series: list[history.Series]) -> bool:  # noqa: ANN401  # mlflow.entities.Run is not typed
    """Whether RLDK did not record the run; it may have copied it."""
    is_ours = "rldk.run_id" in run.data.tags or not all(each.is_raw for each in series)
    return not is_ours or run.data.tags.get(told.RAW) == "true"


def began_at(run: Any, series: list[history.Series]) -> str:  # noqa: ANN401  # the same
    """A time before every point, for a run that does not tell RLDK's: one may be logged with any time."""
    first = history.first_timestamp(series)
    started = run.info.start_time or 0
    return str((started if first is None else min(started, first - 1)) / 1000)


def telling(first: Event, run: Any, project: str, *, is_raw: bool) -> Event:  # noqa: ANN401  # the same
    """Add what MLflow shows of the run to the event that begins it."""
    tags = run.data.tags
    shown: dict[str, Any] = {
        "config": {unescape(key): value for key, value in run.data.params.items()},
        "tags": {unescape(k): v for k, v in tags.items() if not k.startswith((told.OURS, told.SYSTEM))},
        "name": tags.get("mlflow.runName"),
        "notes": tags.get(told.NOTES),
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
