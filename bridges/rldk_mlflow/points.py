"""How do an event's numbers reach a tracking store: as points, a thousand in a request."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk.bridge import tracker_metrics
from rldk.event import as_float, non_finite_name
from rldk_mlflow import client
from rldk_mlflow.names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rldk.event import Event

NONFINITE_COUNT: Final = "rldk/health/nonfinite_count"
MOST_IN_A_REQUEST: Final = 1000

_LOG_BATCH: Final = "/api/2.0/mlflow/runs/log-batch"
_REST_STORE: Final = "mlflow.store.tracking.rest_store"


class Point(msgspec.Struct):
    """A metric's value at a time (milliseconds since the epoch) and a step, named as in MLflow's REST API."""

    key: str
    value: float
    timestamp: int
    step: int


class _Spelled(msgspec.Struct):
    key: str
    value: str
    timestamp: int
    step: int


class _Batch(msgspec.Struct):
    run_id: str
    metrics: list[Point | _Spelled]


def points(events: Sequence[Event]) -> list[Point]:
    """Give all points of the events."""
    return [
        Point(escape(name), value, stamp, event.step)
        for event in events
        for stamp in (round(event.time * 1000),)
        for name, value in _numbers(event).items()
    ]


def send(asked: Any, run_id: str, batch: Sequence[Point]) -> None:  # noqa: ANN401  # MlflowClient is not typed
    """Write points to a run, in order; to write the same again changes nothing. To be called inside `leash`.

    A tracking server gets the request that its REST API documents, spelled by us: MLflow's own client
    spends more time on it than the server, and holds up the training's thread meanwhile.
    https://mlflow.org/docs/latest/api_reference/rest-api.html#log-batch
    """
    store = asked._tracking_client.store  # noqa: SLF001  # no public way leads there
    is_plain = type(store).__module__ == _REST_STORE and hasattr(store, "get_host_creds")
    for some in _slices(batch):
        if is_plain:
            _post(store.get_host_creds(), run_id, some)
        else:
            _log(asked, run_id, some)


def _slices(batch: Sequence[Point]) -> Iterator[Sequence[Point]]:
    for start in range(0, len(batch), MOST_IN_A_REQUEST):
        yield batch[start : start + MOST_IN_A_REQUEST]


def _post(credentials: object, run_id: str, batch: Sequence[Point]) -> None:
    rest = importlib.import_module("mlflow.utils.rest_utils")
    body = msgspec.json.encode(_Batch(run_id, [_spelled(point) for point in batch]))
    kind = {"Content-Type": "application/json"}
    answer = rest.http_request(credentials, _LOG_BATCH, "POST", extra_headers=kind, data=body)
    rest.verify_rest_response(answer, _LOG_BATCH)


def _spelled(point: Point) -> Point | _Spelled:
    if math.isfinite(point.value):
        return point
    # A bare NaN would be taken, and all behind it lost: MLflow 3.17.2 reads no further
    return _Spelled(point.key, non_finite_name(point.value), point.timestamp, point.step)


def _log(asked: Any, run_id: str, batch: Sequence[Point]) -> None:  # noqa: ANN401  # MlflowClient is not typed
    metric = client.library().entities.Metric
    metrics = [metric(point.key, point.value, point.timestamp, point.step) for point in batch]
    # Said outright, because the default follows MLFLOW_ENABLE_ASYNC_LOGGING, which loses the tail:
    # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/tracking/client.py#L2762
    asked.log_batch(run_id, metrics=metrics, synchronous=True)


def _numbers(event: Event) -> dict[str, float]:
    shown = _as_floats(tracker_metrics(event))
    if event.kind == "metrics" and shown and not event.is_raw:
        # A metric whose last value is NaN vanishes from MLflow's run page; this number stays:
        # https://github.com/mlflow/mlflow/issues/16555
        shown[NONFINITE_COUNT] = sum(not math.isfinite(v) for v in _as_floats(event.metrics).values())
    return shown


def _as_floats(numbers: Mapping[str, float]) -> dict[str, float]:
    try:
        return {name: as_float(value) for name, value in numbers.items()}
    except (TypeError, ValueError):  # text from a source that holds no numbers only
        return {name: as_float(value) for name, value in numbers.items() if isinstance(value, int | float)}
