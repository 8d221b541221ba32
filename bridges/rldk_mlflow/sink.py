"""How do events reach an MLflow run."""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from rldk.bridge import Home, run_tags, tracker_metrics
from rldk.errors import SinkClosedError, SinkRejectedError
from rldk.event import as_float, encode
from rldk_mlflow import client
from rldk_mlflow.names import MAX_LENGTH, escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rldk.event import Event

FOLDER: Final = "rldk"
NONFINITE_COUNT: Final = "rldk/health/nonfinite_count"

_MAX_PARAM: Final = 6000
_UPLOAD_S: Final = 60.0


class MLflowSink:
    """An MLflow run that receives events: the one that is active in the process, or one of its own."""

    name: ClassVar[str] = "mlflow"
    losses: ClassVar[tuple[str, ...]] = (
        "Databases hold an infinity as the largest float, so that this float itself reads back as infinity.",
        "Negative zero reads back as zero in databases.",
        "Every number reads back as a float; whole numbers beyond 2**53 are rounded to one.",
        "Notes and rng are kept only of the event that begins a segment.",
        "Only the numbers in data_slice are kept.",
        "Of model_info, events keep run_id, git_sha, phase and segment.",
        "Events without a number are not kept, so that seq counts only those that are.",
        f"Metric names of more than {MAX_LENGTH} characters, once escaped, are cut and given a hash.",
        f"Parameters of more than {_MAX_PARAM} characters are cut; rldk/run_<segment>.json holds them whole.",
        "A metric that is itself called health/nonfinite_count gives way to RLDK's count.",
        "Parameters keep the value of the first segment that told them.",
    )

    def __init__(self, tracking_uri: str | None = None, run_id: str | None = None) -> None:
        self.tracker_run_id = run_id
        self._uri = tracking_uri
        self._client: Any = None
        self._is_ours = False
        self._run: Event | None = None
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
    def create(cls) -> Self:
        """Prepare a sink whose run is looked up, or created, in the configured experiment on `open`.

        Raises:
            MissingDependencyError: MLflow is not installed.
        """
        client.require("the mlflow sink")
        return cls()

    def open(self, run: Event) -> Home:
        """Make sure that the MLflow run exists, and that it tells what `run` does.

        Raises:
            SinkClosedError: MLflow refuses the run for good.
        """
        with self._asking():
            self._uri = self._uri or client.library().get_tracking_uri()
            self._client = client.connect(self._uri)
            self.tracker_run_id = self.tracker_run_id or self._found(run) or self._created(run)
            there = self._client.get_run(self.tracker_run_id)
            self._tell(run, there.data.params)
            self._take(there)
        self._run = run
        return _home(self._uri, there.info)

    def _found(self, run: Event) -> str | None:
        quote = '"' if "'" in run.run_id else "'"
        tagged = f"tags.`rldk.run_id` = {quote}{run.run_id}{quote}"
        there = self._client.search_runs([_experiment()], tagged, max_results=1, order_by=["start_time ASC"])
        return str(there[0].info.run_id) if there else None

    def _created(self, run: Event) -> str:
        # A create whose answer is lost has still made a run; the tag lets the next try find it.
        tags = {"rldk.run_id": run.run_id, "rldk.opened_by": "rldk"}
        began = _milliseconds(run.time)
        made = self._client.create_run(_experiment(), start_time=began, tags=tags, run_name=run.run_id)
        return str(made.info.run_id)

    def _tell(self, run: Event, known: Mapping[str, str]) -> None:
        entities = client.library().entities
        tags = [entities.RunTag(f"rldk.{key}", value) for key, value in run_tags(run).items()]
        # A parameter cannot be changed, and one try to do so fails the whole request.
        told = {key: value for key, value in _params(run).items() if key not in known}
        params = [entities.Param(key, value) for key, value in told.items()]
        self._client.log_batch(self.tracker_run_id, params=params, tags=tags, synchronous=True)

    def _take(self, there: Any) -> None:  # noqa: ANN401  # mlflow.entities.Run is not typed
        self._is_ours = there.data.tags.get("rldk.opened_by") == "rldk"
        if self._is_ours and there.info.status != "RUNNING":
            self._client.update_run(self.tracker_run_id, status="RUNNING")

    def send(self, events: Sequence[Event]) -> None:
        """Write the events' numbers; to write the same events again changes nothing.

        Raises:
            SinkRejectedError: MLflow refuses these events for good.
            SinkClosedError: MLflow takes nothing for this run, such as when it was deleted.
        """
        with self._asking():
            points = [point for event in events for point in _points(event)]
            # Said outright, because the default follows MLFLOW_ENABLE_ASYNC_LOGGING, which loses the tail:
            # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/tracking/client.py#L2762
            self._client.log_batch(self.tracker_run_id, metrics=points, synchronous=True)
        self._last_ms = max([_milliseconds(event.time) for event in events], default=self._last_ms)

    def close(self, status: str, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """End the run if it is ours, then upload the files and the event that began the segment.

        When the process ends before training did, a run of somebody else gets its status too.

        Raises:
            SinkClosedError: MLflow refuses for good.
        """
        if self._client is None or self._run is None:
            return
        with self._asking(_UPLOAD_S):
            if self._is_ours or is_exit:
                _leave_to_us(self.tracker_run_id)
                self._client.set_terminated(self.tracker_run_id, status, end_time=self._last_ms)
            for path in filter(Path.exists, artifacts):
                self._client.log_artifact(self.tracker_run_id, str(path), FOLDER)
            whole = encode(self._run).decode()
            self._client.log_text(self.tracker_run_id, whole, f"{FOLDER}/run_{self._run.segment}.json")

    @contextmanager
    def _asking(self, answer_s: float = client.ANSWER_S) -> Iterator[None]:
        exceptions = client.library().exceptions
        try:
            with client.leash(answer_s):
                yield
        except exceptions.MlflowException as error:
            if not client.is_final(error):
                raise
            refused = SinkRejectedError if client.is_about_the_data(error) else SinkClosedError
            raise refused(self._refusal(error)) from error

    def _refusal(self, error: Exception) -> str:
        run = f"run {self.tracker_run_id}" if self.tracker_run_id else "a new run"
        where = client.without_secrets(self._uri or "its tracking URI")
        why = client.without_secrets(str(error))
        return f"MLflow at {where} refuses {run}: {why}; check that the run still exists and takes writes"


def _leave_to_us(run_id: str | None) -> None:
    """Take a run from the ones that MLflow would end as FINISHED when the process exits.

    https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/tracking/fluent.py#L760-L768
    """
    for active in client.library().tracking.fluent._active_run_stack.get_all_thread_values().values():  # noqa: SLF001
        active[:] = [run for run in active if run.info.run_id != run_id]


def _experiment() -> str:
    # Where mlflow.start_run would put a run: set_experiment, the environment, or the default. MLflow
    # has no public name for this.
    return str(client.library().tracking.fluent._get_experiment_id())  # noqa: SLF001


def _home(uri: str, info: Any) -> Home:  # noqa: ANN401  # mlflow.entities.RunInfo is not typed
    shown = client.without_secrets(uri)
    page = f"{shown.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
    return Home(
        tracker=MLflowSink.name,
        run_id=info.run_id,
        source=f"{_absolute(shown)}#runs/{info.run_id}",
        url=page if client.is_web(uri) else None,
    )


def _absolute(uri: str) -> str:
    scheme, found, path = uri.partition(":///")
    return f"{scheme}:///{Path(path).absolute()}" if found and scheme.startswith("sqlite") else uri


def _milliseconds(time: float) -> int:
    return round(time * 1000)


def _points(event: Event) -> list[Any]:
    shown = tracker_metrics(event)
    if event.kind == "metrics" and shown:
        # A metric whose last value is NaN vanishes from MLflow's run page; this number stays:
        # https://github.com/mlflow/mlflow/issues/16555
        shown[NONFINITE_COUNT] = sum(not math.isfinite(as_float(value)) for value in event.metrics.values())
    point = client.library().entities.Metric
    stamp = _milliseconds(event.time)
    return [point(escape(name), as_float(value), stamp, event.step) for name, value in shown.items()]


def _params(run: Event) -> dict[str, str]:
    if "mlflow" in (run.model_info.get("report_to") or ()):
        return {}  # transformers' MLflowCallback logs the arguments itself, under their bare names
    flat = _flattened(run.model_info.get("args") or {}, "args/")
    return {escape(name): _shortened(_text(value), run.segment) for name, value in flat.items()}


def _flattened(args: Mapping[str, Any], head: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in args.items():
        nested = isinstance(value, dict) and value
        flat |= _flattened(value, f"{head}{name}.") if nested else {f"{head}{name}": value}
    return flat


def _text(value: object) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)


def _shortened(text: str, segment: int) -> str:
    if len(text) <= _MAX_PARAM:
        return text
    note = f" … (whole in {FOLDER}/run_{segment}.json)"
    return text[: _MAX_PARAM - len(note)] + note


if TYPE_CHECKING:
    from rldk.bridge import Sink

    _conforms: type[Sink] = MLflowSink
