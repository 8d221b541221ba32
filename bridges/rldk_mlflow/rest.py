"""How are the histories of a run fetched from a tracking server, whole and soon?

MLflow's own client takes longer to unpack a history than the server to give it, and asks for one at a time.
"""

from __future__ import annotations

import contextvars
import importlib
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk_mlflow.columns import Gathering
from rldk_mlflow.history import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk_mlflow.store import Run

_REST_STORE: Final = "mlflow.store.tracking.rest_store"
_PAGES: Final = "/api/2.0/mlflow/metrics/get-history"
_WINDOWS: Final = "/api/2.0/mlflow/metrics/get-history-bulk-interval"
_VERSION: Final = "/version"

_AT_A_TIME: Final = 4  # a server has four workers, if it is not told otherwise
_PAGE: Final = 25_000
_MOST_IN_A_WINDOW: Final = 2500
"""https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/server/handlers.py#L467"""

_WISHED_IN_A_WINDOW: Final = 2400
_GROWTH: Final = 4
_FIRST_STEP: Final = -(2**63)
_LAST_STEP: Final = 2**63 - 1

# From here on a window is cut out by the database; servers before read the whole history for each of them.
_WINDOWED_SINCE: Final = (3, 16)


class _Point(msgspec.Struct):
    value: float | str = 0.0
    timestamp: int = 0
    step: int = 0


class _Answer(msgspec.Struct):
    metrics: list[_Point] = []
    next_page_token: str = ""


_decoder: Final = msgspec.json.Decoder(_Answer)


class AnswerError(OSError):
    """A tracking server answers what it should not."""

    def __init__(self, endpoint: str, key: str, reason: str) -> None:
        super().__init__(f"the server's answer to {endpoint} for the metric {key!r} is of no use: {reason}")


def histories(asked: Any, run: Run) -> Iterator[Series] | None:  # noqa: ANN401  # MlflowClient is not typed
    """Fetch the histories of a run in the order of its keys, a few at a time, to be called inside `leash`.

    Returns:
        None where MLflow's client does not speak to a tracking server in the usual way.

    Raises:
        MlflowException: The server refuses, or is not there; from the iterator, too.
        AnswerError: The server answers something else; from the iterator.
    """
    store = asked._tracking_client.store  # noqa: SLF001  # no public way leads there
    if type(store).__module__ != _REST_STORE or not hasattr(store, "get_host_creds"):
        return None
    return _fetched(_Server(store.get_host_creds()), run)


def _fetched(server: _Server, run: Run) -> Iterator[Series]:
    has_windows = server.version() >= _WINDOWED_SINCE
    with ThreadPoolExecutor(_AT_A_TIME, "rldk-mlflow") as pool:
        fetching = [
            # The leash is a context variable, of which a thread would see nothing
            pool.submit(contextvars.copy_context().run, _fetch, server, run, key, has_windows=has_windows)
            for key in run.histories()
        ]
        try:
            for each in fetching:
                yield each.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _fetch(server: _Server, run: Run, key: str, *, has_windows: bool) -> Series:
    gathering = Gathering()
    run_id, last = run.info.run_id, run.data.metrics[key]
    if not has_windows or not _in_windows(lambda a, b: server.window(run_id, key, a, b), last, gathering):
        gathering = Gathering()
        _in_pages(lambda token: server.page(run_id, key, token), gathering)
    return Series.under(key, gathering.columns())


def _in_windows(ask: Callable[[int, int], list[_Point] | None], last: int, into: Gathering) -> bool:
    """Fetch a history by ranges of steps, which holds for certain all points of which there are few enough.

    Args:
        ask: Asks for the points from one step to another.
        last: Up to which step there should be points.
        into: Where the points go.

    Returns:
        Whether all has come: no single step has more points than an answer holds.
    """
    first, width = _FIRST_STEP, _WISHED_IN_A_WINDOW
    while True:
        end = max(first, 0) + width - 1
        end = _LAST_STEP if end >= last else end
        points = ask(first, end)
        if points is None:
            return False
        if len(points) < _MOST_IN_A_WINDOW:
            _gather(points, into)
            if end == _LAST_STEP:
                return True
            wished = width * _WISHED_IN_A_WINDOW // max(len(points), 1)
            first, width = end + 1, max(1, min(wished, _GROWTH * width))
        elif width == 1:
            return False
        else:
            width //= 2


def _in_pages(ask: Callable[[str], _Answer], into: Gathering) -> None:
    token = ""
    while True:
        answer = ask(token)
        _gather(answer.metrics, into)
        if not answer.next_page_token or answer.next_page_token == token:
            return
        token = answer.next_page_token


def _gather(points: list[_Point], into: Gathering) -> None:
    into.add([p.timestamp for p in points], [p.step for p in points], [p.value for p in points])


class _Server:
    """A tracking server, to which MLflow's own functions speak: with its credentials and limits."""

    def __init__(self, credentials: object) -> None:
        self._credentials = credentials
        self._rest = importlib.import_module("mlflow.utils.rest_utils")

    def version(self) -> tuple[int, ...]:
        """Which release of MLflow the server is; (0, 0) where it does not say."""
        answer = self._ask(_VERSION, {})
        found = re.match(r"(\d+)\.(\d+)", answer.text if answer.status_code == HTTPStatus.OK else "")
        return tuple(map(int, found.groups())) if found else (0, 0)

    def window(self, run_id: str, key: str, first: int, last: int) -> list[_Point] | None:
        """Ask for the points of some steps, of too many a sample; None where it cannot."""
        asking = {"run_ids": run_id, "metric_key": key, "max_results": _MOST_IN_A_WINDOW}
        answer = self._ask(_WINDOWS, asking | {"start_step": first, "end_step": last})
        if answer.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            return None
        return self._read(_WINDOWS, key, answer).metrics

    def page(self, run_id: str, key: str, token: str) -> _Answer:
        """Ask for a part of a history, from where the last one ended."""
        asking = {"run_id": run_id, "metric_key": key, "max_results": _PAGE}
        return self._read(_PAGES, key, self._ask(_PAGES, asking | ({"page_token": token} if token else {})))

    def _ask(self, endpoint: str, asking: dict[str, object]) -> Any:  # noqa: ANN401  # requests.Response
        return self._rest.http_request(self._credentials, endpoint, "GET", params=asking)

    def _read(self, endpoint: str, key: str, answer: Any) -> _Answer:  # noqa: ANN401  # requests.Response
        if (
            answer.status_code != HTTPStatus.OK
        ):  # else it would guess the encoding, and decode all of it twice
            self._rest.verify_rest_response(answer, endpoint)
        try:
            return _decoder.decode(answer.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise AnswerError(endpoint, key, str(error)) from error
