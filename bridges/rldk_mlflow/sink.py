"""How do events reach an MLflow run."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self

from rldk.bridge import Home, Target, logger
from rldk.errors import SinkBusyError, SinkClosedError, SinkRejectedError
from rldk.event import as_float, encode
from rldk_mlflow import birth, client, note, points, told
from rldk_mlflow.names import MAX_LENGTH, escape, unescape
from rldk_mlflow.place import Place, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rldk.bridge import Probed, Receipt
    from rldk.event import Event

_logger = logger(__name__)


_UPLOAD_S: Final = 60.0
_CREDENTIALS: Final = frozenset({401, 403})
_TOO_LARGE: Final = 413
_NO_SUCH: Final = "RESOURCE_DOES_NOT_EXIST"


class MLflowSink:
    """An MLflow run that receives events: the one that is active in the process, or one of its own."""

    name: ClassVar[str] = "mlflow"
    losses: ClassVar[tuple[str, ...]] = (
        "Databases hold an infinity as the largest float, so that this float itself reads back as infinity.",
        "Negative zero reads back as zero in databases.",
        "Every number reads back as a float; whole numbers beyond 2**53 are rounded to one.",
        "A metric whose value is no number is left out.",
        "Notes and rng are kept only of the event that begins a segment.",
        "Only the numbers in data_slice are kept.",
        "Of model_info, events keep run_id, git_sha, phase and segment.",
        "Of an alert only its rule and its level are read back; its text is in tags, cut to their limit.",
        "The verdict on the run's health is in a tag and the description, and is not read back.",
        "Events without a number are not kept, so that seq counts only those that are.",
        f"Names of more than {MAX_LENGTH} characters, once escaped, are cut and given a hash.",
        f"Parameters of over {told.MAX_PARAM} characters are cut; rldk/run_<segment>.json holds them whole.",
        f"Tags of over {told.MAX_TAG} characters are cut; rldk/run_<segment>.json holds them whole.",
        "Parameters are text, and nested ones get one dotted name.",
        "A metric that is itself called health/nonfinite_count gives way to RLDK's count.",
        "Parameters keep the value of the first segment that told them.",
        "The numbers of a summary become metrics with one point.",
        "A file store keeps what it is sent twice, after a lost answer, twice; it is read once.",
    )

    def __init__(
        self,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        target: Target = Target(),  # noqa: B008  # it is immutable
    ) -> None:
        self._target = target
        self._place = Place.parse(target.source) if target.source else Place(tracking_uri)
        self.tracker_run_id = run_id or target.run_id or (self._place.run_id if self._place else None)
        self._uri = tracking_uri
        self._client: Any = None
        self._is_ours = False
        self._params: set[str] = set()
        self._tags: set[str] = set()
        self._runs: dict[int, Event] = {}
        self._last_told = -math.inf
        self._health_at = -math.inf
        self._page: str | None = None
        self._uploaded: set[Path] = set()
        self._last_ms: int | None = None

    @classmethod
    def attach(cls) -> Self | None:
        """Take the MLflow run that is active in this thread; None where there is none."""
        mlflow = sys.modules.get("mlflow")
        active = mlflow.active_run() if mlflow is not None else None
        if mlflow is None or active is None:
            return None
        return cls(mlflow.get_tracking_uri(), active.info.run_id)

    @classmethod
    def create(cls, target: Target = Target()) -> Self:  # noqa: B008  # it is immutable
        """Prepare a sink whose run is looked up, or created, on `open`.

        Args:
            target: The run to go on with, or the experiment of a new one; without either, the
                experiment is the one that MLflow is configured to.

        Raises:
            MissingDependencyError: MLflow is not installed.
        """
        client.require("the mlflow sink")
        return cls(target=target)

    @classmethod
    def probe(cls) -> Iterator[Probed]:
        """Try whether the tracker that is configured works, for `rldk doctor`."""
        from rldk_mlflow import probe

        return probe.probe()

    @classmethod
    def kept(cls, name: str, value: float) -> tuple[str, float]:
        """Tell what a database behind MLflow gives back of a number."""
        number = as_float(value)
        # What is infinite, and what is as large as a float can be, is one number there.
        is_most = abs(number) >= sys.float_info.max
        return unescape(escape(name)), math.copysign(math.inf, number) if is_most else number + 0.0

    @classmethod
    def holds(cls, target: Target) -> bool | None:
        """Ask whether MLflow still has a run; one in its bin is there. None where it does not answer."""
        uri = cls(target=target)._located()  # noqa: SLF001  # of our own
        path = client.local_path(uri)
        if path is not None and not path.exists():
            return False  # MLflow would make an empty store there to find nothing in it
        exceptions = client.library().exceptions
        with client.leash():
            try:
                client.connect(uri).get_run(target.run_id)
            except (exceptions.MlflowException, OSError) as error:
                return False if getattr(error, "error_code", "") == _NO_SUCH else None
        return True

    def open(self, run: Event) -> Home:
        """Make sure that the MLflow run exists, and that it tells what `run` does.

        Raises:
            SinkClosedError: MLflow refuses the run for good, or the target names none.
        """
        with self._asking():
            self._uri = self._located()
            self._client = birth.connect(self._uri)
            self.tracker_run_id = self.tracker_run_id or self._found(run) or self._created(run)
            there = self._client.get_run(self.tracker_run_id)
            self._params, self._tags = set(there.data.params), note.tags_of_others(there.data.tags)
            self._health_at = told.health_at(there.data.tags)
            self._tell(run)
            self._take(there)
        home = _home(self._uri, there.info)
        self._page = home.url
        return home

    def _located(self) -> str:
        source = self._target.source
        if self._place is None or (source and self._place.run_id is None):
            known = client.without_secrets(source or "")
            raise SinkClosedError(f"{known} names no MLflow run; give <tracking URI>#runs/<run id>")
        return self._place.reachable_uri()

    def _found(self, run: Event) -> str | None:
        quote = '"' if "'" in run.run_id else "'"
        tagged = f"tags.`rldk.run_id` = {quote}{run.run_id}{quote}"
        experiment = self._experiment()
        there = self._client.search_runs([experiment], tagged, max_results=1, order_by=["start_time ASC"])
        return str(there[0].info.run_id) if there else None

    def _created(self, run: Event) -> str:
        # A create whose answer is lost has still made a run; the tag lets the next try find it.
        tags = {"rldk.run_id": run.run_id, "rldk.opened_by": "rldk"}
        began, name = _milliseconds(run.time), told.run_name(run)
        made = self._client.create_run(self._experiment(), start_time=began, tags=tags, run_name=name)
        return str(made.info.run_id)

    def _experiment(self) -> str:
        name = self._target.project
        if name is None:
            return _configured_experiment()
        there = self._client.get_experiment_by_name(name)
        if there is None:
            return str(self._client.create_experiment(name))
        if there.lifecycle_stage != "active":
            remedy = (
                f"restore it (mlflow experiments restore -x {there.experiment_id}) or choose another project"
            )
            raise SinkClosedError(f"the MLflow experiment {name!r} is deleted; {remedy}")
        return str(there.experiment_id)

    def _tell(self, run: Event) -> None:
        whole = {key: value for key, value in told.params(run).items() if key not in self._params}
        params = {
            key: told.shortened(value, told.MAX_PARAM, told.path_of(run)) for key, value in whole.items()
        }
        tags = told.tags(run, self._tags)
        try:
            self._log(params, tags)
        except client.library().exceptions.MlflowException as error:
            if not (client.is_final(error) and client.is_about_the_data(error)):
                raise
            # A parameter cannot be changed, and one try to do so fails the whole request.
            self._log({}, tags)
            self._log_one_by_one(params)
        self._note_told(run, tags, [key for key in params if params[key] != whole[key]])

    def _log(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        entities = client.library().entities
        self._client.log_batch(
            self.tracker_run_id,
            params=[entities.Param(key, value) for key, value in params.items()],
            tags=[entities.RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )
        self._params |= params.keys()

    def _log_one_by_one(self, params: Mapping[str, str]) -> None:
        there = self._client.get_run(self.tracker_run_id).data.params
        refused = [
            key for key, value in params.items() if key not in there and not self._has_taken(key, value)
        ]
        self._params |= set(there) | set(refused)
        if refused:
            text = "mlflow: run %s does not take these parameters: %s; rldk/run_<segment>.json holds them"
            _logger.warning(text, self.tracker_run_id, ", ".join(refused))

    def _has_taken(self, key: str, value: str) -> bool:
        try:
            self._log({key: value}, {})
        except client.library().exceptions.MlflowException as error:
            if not (client.is_final(error) and client.is_about_the_data(error)):
                raise
            return False
        return True

    def _note_told(self, run: Event, tags: Mapping[str, str], cut: Sequence[str]) -> None:
        self._runs[run.segment] = run
        self._last_told = run.time
        self._tags |= tags.keys()
        if cut:
            text = (
                "mlflow: parameters of more than %d characters are cut in run %s: %s; %s/%s holds them whole"
            )
            names = ", ".join(cut)
            _logger.info(text, told.MAX_PARAM, self.tracker_run_id, names, told.FOLDER, told.file_name(run))

    def _take(self, there: Any) -> None:  # noqa: ANN401  # mlflow.entities.Run is not typed
        self._is_ours = there.data.tags.get("rldk.opened_by") == "rldk"
        if self._is_ours and there.info.status != "RUNNING":
            self._client.update_run(self.tracker_run_id, status="RUNNING")

    def settle(self, receipt: Receipt | None) -> float:
        """Believe what was noted: a database absorbs an exact repeat."""
        return receipt.at if receipt else 0.0

    def send(self, events: Sequence[Event]) -> None:
        """Write the events' numbers, and what they say of the run's health; again, it changes nothing.

        Raises:
            SinkRejectedError: MLflow refuses these events for good.
            SinkClosedError: MLflow takes nothing for this run, such as when it was deleted.
            SinkBusyError: The server asks for a pause.
        """
        with self._asking():
            for event in events:
                if event.kind == "run" and event.time != self._last_told:
                    self._tell(event)
            points.send(self._client, str(self.tracker_run_id), points.points(events))
            self._tell_health([e for e in events if e.kind in {"alert", "end"} and e.time > self._health_at])
        self._last_ms = max([_milliseconds(event.time) for event in events], default=self._last_ms)

    def _tell_health(self, news: Sequence[Event]) -> None:
        """Let the last word on each rule, and on the run, be the tags; at the run's end, describe it."""
        said = {event.time: told.health(event) for event in news}
        tags = {key: value for each in said.values() for key, value in each.items()}
        if not tags:
            return
        at = max(time for time, each in said.items() if each)
        ends = [event for event in news if event.kind == "end"]
        if ends:
            stale = {told.STOPPED_BY: ""} if told.STOPPED_BY in self._tags else {}
            tags = stale | tags | self._described(lambda text: note.with_health(text, ends[-1]))
        try:
            self._log({}, tags | {told.HEALTH_AT: str(at)})
        except client.library().exceptions.MlflowException as error:
            if not (client.is_final(error) and client.is_about_the_data(error)):
                raise
            text = "mlflow: run %s does not take what is said of its health: %s"
            _logger.warning(text, self.tracker_run_id, client.without_secrets(str(error)))
        self._tags |= tags.keys()
        self._health_at = at

    def _described(self, change: Callable[[str], str]) -> dict[str, str]:
        """The tag that changes the run's description, if anything changes."""
        text = self._client.get_run(self.tracker_run_id).data.tags.get(told.NOTES, "")
        changed = change(text)
        return {} if changed == text else {told.NOTES: changed}

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """End the run if it is ours, then upload the files and the events that began the segments.

        When the process ends before training did, a run of somebody else gets its status too. Without
        a status the run is left running.

        Raises:
            SinkClosedError: MLflow refuses for good.
            SinkBusyError: The server asks for a pause.
        """
        if self._client is None or not self._runs:
            return
        with self._asking(_UPLOAD_S):
            if status is not None and (self._is_ours or is_exit):
                _leave_to_us(self.tracker_run_id)
                self._client.set_terminated(self.tracker_run_id, status, end_time=self._last_ms)
            for path in artifacts:
                self._upload(path)
            given = {path.name for path in artifacts if path.is_file()}
            self._upload_runs(given)
            if shown := note.shown(sorted(given)):
                self._log({}, self._described(lambda text: note.with_links(text, shown, self._page)))

    def _upload(self, path: Path) -> None:
        if path in self._uploaded:  # by the same close, which failed at a later one
            return
        if path.is_dir():
            self._client.log_artifacts(self.tracker_run_id, str(path), path.name)
        elif path.exists():
            self._client.log_artifact(self.tracker_run_id, str(path), told.FOLDER)
        self._uploaded.add(path)

    def _upload_runs(self, given: set[str]) -> None:
        for run in self._runs.values():
            if told.file_name(run) not in given:  # the original, of a run that is copied, says more
                text = encode(run).decode()
                self._client.log_text(self.tracker_run_id, text, f"{told.FOLDER}/{told.file_name(run)}")

    @contextmanager
    def _asking(self, answer_s: float = client.ANSWER_S) -> Iterator[None]:
        exceptions = client.library().exceptions
        with client.leash(answer_s) as leash:
            try:
                yield
            except (exceptions.MlflowException, OSError) as error:
                self._judge(error, leash)

    def _judge(self, error: Exception, leash: client.Leash) -> NoReturn:
        if leash.pause_s is not None:
            asked = f"answers {leash.status} and asks for a pause of {leash.pause_s:.0f} s"
            raise SinkBusyError(f"MLflow at {self._where()} {asked}", leash.pause_s) from error
        status = getattr(error, "get_http_status_code", lambda: leash.status)()
        if {status, leash.status} & _CREDENTIALS:
            remedy = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            raise SinkClosedError(self._refusal(error, remedy)) from error
        if leash.status == _TOO_LARGE:
            raise SinkRejectedError(
                self._refusal(error, "let the proxy before it take larger requests")
            ) from error
        if isinstance(error, OSError) or not client.is_final(error):
            raise error
        refused = SinkRejectedError if client.is_about_the_data(error) else SinkClosedError
        raise refused(self._refusal(error, "check that the run still exists and takes writes")) from error

    def _refusal(self, error: Exception, remedy: str) -> str:
        run = f"run {self.tracker_run_id}" if self.tracker_run_id else "a new run"
        return f"MLflow at {self._where()} refuses {run}: {client.without_secrets(str(error))}; {remedy}"

    def _where(self) -> str:
        return client.without_secrets(self._uri or "its tracking URI")


def _leave_to_us(run_id: str | None) -> None:
    """Take a run from the ones that MLflow would end as FINISHED when the process exits.

    https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/tracking/fluent.py#L760-L768
    """
    for active in client.library().tracking.fluent._active_run_stack.get_all_thread_values().values():  # noqa: SLF001
        active[:] = [run for run in active if run.info.run_id != run_id]


def _configured_experiment() -> str:
    # Where mlflow.start_run would put a run: set_experiment, the environment, or the default. MLflow
    # has no public name for this.
    return str(client.library().tracking.fluent._get_experiment_id())  # noqa: SLF001


def _home(uri: str, info: Any) -> Home:  # noqa: ANN401  # mlflow.entities.RunInfo is not typed
    shown = client.without_secrets(uri)
    page = f"{shown.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return Home(
        tracker=MLflowSink.name,
        run_id=info.run_id,
        source=source_of(shown, info.run_id),
        url=page if client.is_web(uri) else None,
    )


def _milliseconds(time: float) -> int:
    return round(time * 1000)


if TYPE_CHECKING:
    from rldk.bridge import Sink

    _conforms: type[Sink] = MLflowSink
