"""How are the events of an MLflow run read back."""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from rldk.bridge import PREFIX, RunFacts, event_from_tracker, metric_name, run_events
from rldk.errors import SourceError
from rldk_mlflow import client
from rldk_mlflow.names import unescape
from rldk_mlflow.sink import NONFINITE_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rldk.event import Event

_RUN: Final = r"(?P<run>[0-9A-Za-z][\w\-]{0,255})"
_GRAMMAR: Final = (
    re.compile(rf"runs:/+{_RUN}/?"),
    re.compile(rf"(?P<uri>[A-Za-z][\w+.\-]+:.*|databricks)#(?:[^#?]*/)?runs/{_RUN}(?:[/?#].*)?"),
)
_PAGE_S: Final = 60.0
_PAGE_RETRIES: Final = 2


class Moment(NamedTuple):
    """What the numbers of one event share."""

    timestamp: int
    step: int
    kind: str
    phase: str


class MLflowAdapter:
    """A reader of one MLflow run.

    It takes `runs:/<run id>`, which looks where MLflow itself is configured to, and
    `<tracking URI>#runs/<run id>`; the address of a run's page in MLflow's UI is of this form.
    """

    name: ClassVar[str] = "mlflow"

    def __init__(self, source: str) -> None:
        self.problems: list[str] = []
        self._source = str(source)

    def can_handle(self) -> bool:
        """Whether the source has the form of an MLflow run; asks nobody."""
        return _parsed(self._source) is not None

    def events(self) -> Iterator[Event]:
        """Read the run's events in the order of their time, after one that tells of the run.

        Raises:
            SourceError: The run cannot be read, or RLDK recorded nothing in it.
            MissingDependencyError: MLflow is not installed.
        """
        client.require("reading a run from MLflow")
        facts, moments = self._read()
        yield from run_events(facts)
        for seq, (moment, shown) in enumerate(sorted(moments.items(), key=lambda item: item[0]), start=1):
            time = moment.timestamp / 1000
            event = event_from_tracker(shown, facts=facts, seq=seq, step=moment.step, time=time)
            if event is not None:
                yield event

    def _read(self) -> tuple[RunFacts, dict[Moment, dict[str, float]]]:
        mlflow = client.library()
        try:
            return self._asked()
        except mlflow.exceptions.MlflowException as error:
            remedy = "check the run id, the tracking URI, and MLFLOW_TRACKING_USERNAME and _PASSWORD"
            raise self._error(str(error), remedy) from error
        except OSError as error:
            raise self._error(str(error), "check that the tracking server runs, then try again") from error

    def _asked(self) -> tuple[RunFacts, dict[Moment, dict[str, float]]]:
        uri, run_id = self._target()
        self._must_not_change(uri)
        with client.leash():
            asked = client.connect(uri)
            run = asked.get_run(run_id)
        facts, keys = self._facts(run), self._keys(run)
        with client.leash(_PAGE_S, _PAGE_RETRIES):
            histories = ((unescape(key), asked.get_metric_history(run_id, key)) for key in keys)
            return facts, self._grouped(histories)

    def _target(self) -> tuple[str, str]:
        uri, run_id = _parsed(self._source) or ("", "")
        if not run_id:
            reason = "it names no MLflow run"
            raise self._error(reason, "give runs:/<run id> or <tracking URI>#runs/<run id>")
        configured = str(client.library().get_tracking_uri())
        # A source tells no secret; where it is the configured place, the configuration may hold one.
        is_configured = uri is None or client.without_secrets(configured).rstrip("/") == uri.rstrip("/")
        return (configured if uri is None or is_configured else uri), run_id

    def _must_not_change(self, uri: str) -> None:
        """Refuse a store that MLflow would create, fill or migrate on opening it."""
        path = client.local_path(uri)
        if path is not None and not path.exists():
            reason = f"there is no {path}"
            raise self._error(reason, "check the path")
        version, expected = client.schema_versions(uri) if client.is_database(uri) else (None, None)
        if version != expected:
            reason = f"its schema is {version or 'not that of MLflow'}, the installed MLflow reads {expected}"
            raise self._error(reason, "check the path, or read it with the MLflow version that wrote it")

    def _keys(self, run: Any) -> list[str]:  # noqa: ANN401  # mlflow.entities.Run is not typed
        keys = [key for key in sorted(run.data.metrics) if unescape(key).startswith(PREFIX)]
        if not keys:
            reason = f"the run holds no {PREFIX} metrics, and {len(run.data.metrics)} others"
            raise self._error(reason, "give a run that was recorded with RLDK")
        return keys

    def _facts(self, run: Any) -> RunFacts:  # noqa: ANN401  # mlflow.entities.Run is not typed
        tags = {k.removeprefix("rldk."): v for k, v in run.data.tags.items() if k.startswith("rldk.")}
        fallback = {"run_id": run.info.run_id, "began": str(run.info.start_time / 1000)}
        try:
            return RunFacts.from_tags(fallback | tags)
        except ValueError as error:
            reason = f"one of its rldk.* tags was edited: {error}"
            raise self._error(reason, "correct the tag") from error

    def _grouped(self, histories: Iterable[tuple[str, Iterable[Any]]]) -> dict[Moment, dict[str, float]]:
        moments: dict[Moment, dict[str, float]] = defaultdict(dict)
        for shown, points in histories:
            name = metric_name(shown)
            if name is None or shown == NONFINITE_COUNT:
                continue
            for point in points:
                moment = Moment(point.timestamp, point.step, name.kind, name.phase)
                self._keep(moments[moment], shown, _with_infinity(point.value))
        return moments

    def _keep(self, numbers: dict[str, float], shown: str, value: float) -> None:
        if not _same(numbers.setdefault(shown, value), value):
            self.problems.append(f"{shown} has two values at one time; the first that MLflow gives is kept")

    def _error(self, reason: str, remedy: str) -> SourceError:
        return SourceError(client.without_secrets(self._source), client.without_secrets(reason), remedy)


def _parsed(source: str) -> tuple[str | None, str] | None:
    for form in _GRAMMAR:
        if found := form.fullmatch(source):
            parts = found.groupdict()
            return parts.get("uri"), parts["run"]
    return None


def _with_infinity(value: float) -> float:
    # Databases hold an infinity as the largest float:
    # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/sqlalchemy_store.py#L1370
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = MLflowAdapter
