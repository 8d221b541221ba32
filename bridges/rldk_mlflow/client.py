"""How do we speak to MLflow: its own client, on a short leash that only our own calls feel."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import socket
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rldk.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_S: Final = 3.0
ANSWER_S: Final = 6.0

# SQLAlchemy takes passwords that hold a slash, as no other URL may
_DATABASE_USER: Final = re.compile(
    r"\b((?:postgresql|mysql|mssql)[\w+]*://)\S*?@(?=[\w.\-\[\]:]*(?:[/#?\s]|$))"
)
_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_QUERY: Final = re.compile(r"\?[\w.%-]+=.*", re.DOTALL)
_CLIENT_ERRORS: Final = range(400, 500)
_DATA_ERRORS: Final = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
_WORTH_ANOTHER_TRY: Final = frozenset({408, 429, 499})
_MAY_ASK_FOR_A_PAUSE: Final = frozenset({429, 503})
_ASK: Final = "_get_http_response_with_retries"


@dataclass
class Leash:
    """What binds the requests of one `leash`, and what the server's last answer to them was.

    Attributes:
        settings: What MLflow's environment variables are for them.
        status: HTTP status of that answer; None without one.
        pause_s: The pause that it asked for, in seconds; None where it asked for none.
    """

    settings: dict[str, object]
    status: int | None = None
    pause_s: float | None = None

    def note(self, answer: Any) -> None:  # noqa: ANN401  # requests.Response
        """Take down an answer."""
        self.status = answer.status_code
        asks = self.status in _MAY_ASK_FOR_A_PAUSE
        self.pause_s = _pause(answer.headers.get("Retry-After", "")) if asks else None


_ours: ContextVar[Leash | None] = ContextVar("rldk_mlflow_leash", default=None)


def require(what: str) -> None:
    """Make sure that MLflow is installed, without importing it.

    Raises:
        MissingDependencyError: It is not.
    """
    if find_spec("mlflow") is None:
        raise MissingDependencyError(what, "mlflow", "mlflow")


def library() -> Any:  # noqa: ANN401  # a module without types
    """Give MLflow, imported on first use: it takes seconds, and not everyone has it."""
    return importlib.import_module("mlflow")


def configured_uri(*, must: bool) -> str:
    """Where MLflow is configured to look; empty where it is told nothing, and need not say.

    Args:
        must: Whether MLflow is asked even where that means to import it.

    Raises:
        MissingDependencyError: It must be asked, and is not installed.
    """
    told = os.environ.get("MLFLOW_TRACKING_URI", "")
    if sys.modules.get("mlflow") is None and (is_database(told) or not must):
        return told
    require("reading from MLflow")
    return str(library().get_tracking_uri())


def connect(uri: str) -> Any:  # noqa: ANN401  # MlflowClient is not typed
    """Open MLflow's client; to be called inside `leash`.

    Raises:
        OSError: No database server listens there.
    """
    knock(uri)
    return library().MlflowClient(tracking_uri=uri)


def knock(uri: str) -> None:
    """Make sure that someone listens where a database server should be.

    Raises:
        OSError: No one does.
    """
    # MLflow tries ten times, 100 s in all, before it admits that a database server is not there:
    # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/db/utils.py#L360
    usual = _PORTS.get(_engine(uri))
    if usual is None:
        return
    try:
        parts = urlsplit(_DATABASE_USER.sub(r"\1", uri))
        host, port = parts.hostname, parts.port or usual
    except ValueError:
        return  # SQLAlchemy says so better
    if host:
        socket.create_connection((host, port), timeout=CONNECT_S).close()


@contextmanager
def leash(answer_s: float = ANSWER_S, retries: int = 0) -> Iterator[Leash]:
    """Let MLflow's requests made inside give up soon, and print nothing.

    MLflow retries for four minutes, and for twenty where the server hangs. It takes its limits from
    the environment on every request, and the environment belongs to the whole process, so that to
    set them there would change the user's own calls. Here the objects through which MLflow reads
    those variables look into a context variable first: threads other than ours see no difference.
    https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/utils/rest_utils.py#L137-L143
    """
    ours = Leash(_settings(answer_s, retries))
    _lend(ours.settings)
    _listen()
    token = _ours.set(ours)
    try:
        yield ours
    finally:
        _ours.reset(token)


def _settings(answer_s: float, retries: int) -> dict[str, object]:
    # A user who says how long their server may take knows better than we do.
    patience = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", answer_s))
    return {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": (CONNECT_S, patience),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": retries,
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 1,
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": False,
        "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": round(patience),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": False,
    }


def _lend(settings: dict[str, object]) -> None:
    variables = library().environment_variables
    for name in settings:
        variable = getattr(variables, name, None)
        if variable is not None and "get" not in vars(variable):
            variable.get = _looking_here_first(name, variable.get)


def _looking_here_first(name: str, read: Any) -> Any:  # noqa: ANN401  # untyped functions of MLflow
    def get() -> object:
        ours = _ours.get()
        return ours.settings[name] if ours and name in ours.settings else read()

    return get


def _listen() -> None:
    """Hear what a server asks for, which MLflow's exceptions do not tell.

    Where MLflow asks over HTTP in another way, as another version may, or Databricks' SDK does, nothing
    is heard, and the delivery pauses as it does for any failure.
    """
    rest = importlib.import_module("mlflow.utils.rest_utils")
    ask = getattr(rest, _ASK, None)
    if inspect.isfunction(ask) and "raise_on_status" in inspect.signature(ask).parameters:
        setattr(rest, _ASK, _Listening(ask))


class _Listening:
    """MLflow's function that asks over HTTP; the answers to our own requests are noted."""

    def __init__(self, ask: Any) -> None:  # noqa: ANN401  # an untyped function of MLflow
        self._ask = ask
        self._form = inspect.signature(ask)

    def __call__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401  # requests.Response
        ours = _ours.get()
        if ours is None:
            return self._ask(*args, **kwargs)
        asked = self._form.bind(*args, **kwargs)
        # Else the answer is thrown away once there are no tries left; MLflow raises for it in any case:
        # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/utils/rest_utils.py#L381
        asked.arguments["raise_on_status"] = False
        ours.status = ours.pause_s = None
        answer = self._ask(*asked.args, **asked.kwargs)
        ours.note(answer)
        return answer


def _pause(retry_after: str) -> float | None:
    """Read a Retry-After header, seconds or a date; None for anything else."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def is_final(error: Any) -> bool:  # noqa: ANN401  # MlflowException is not typed
    """Whether MLflow would refuse the same request again."""
    if type(error.__cause__).__module__.startswith("sqlalchemy"):
        return False  # MLflow calls most trouble with its database, a lost connection too, BAD_REQUEST
    cause = error.__cause__ or error.__context__
    if isinstance(cause, library().exceptions.MlflowException) and not is_final(cause):
        return False  # MLflow calls an experiment unknown that it could not look up
    if error.error_code == "RESOURCE_ALREADY_EXISTS":
        return False  # somebody has made it meanwhile: another try finds it
    status = error.get_http_status_code()
    return status in _CLIENT_ERRORS and status not in _WORTH_ANOTHER_TRY


def is_about_the_data(error: Any) -> bool:  # noqa: ANN401  # MlflowException is not typed
    """Whether MLflow refuses what was sent, and not the run: this one is deleted, unknown or forbidden."""
    return error.error_code in _DATA_ERRORS and "must be in the 'active' state" not in str(error)


def without_secrets(text: str) -> str:
    """Drop the user, password and query of every URL in a text."""
    text = _DATABASE_USER.sub(r"\1", text)
    return re.sub(r"(?<=://)[^/\s]+@", "", re.sub(r"(?<=\w)\?[^#\s]*=[^#\s]*", "", text))


def is_web(uri: str) -> bool:
    """Whether a tracking URI is that of a server with pages."""
    return uri.startswith(("http://", "https://"))


def is_database(uri: str) -> bool:
    """Whether MLflow would open a database itself."""
    return _engine(uri) in {"sqlite", *_PORTS}


def _engine(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0]


def local_path(uri: str) -> Path | None:
    """Where a tracking URI points to on this machine; None where it points elsewhere."""
    if _engine(uri) == "sqlite":
        return Path(_QUERY.sub("", uri.partition(":///")[2]))
    if uri.startswith("file:"):
        return Path(url2pathname(urlsplit(uri).path))
    return None if ":" in uri or uri == "databricks" else Path(uri)
