"""What does a W&B server say of a run?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from rldk.errors import MissingDependencyError, SourceError
from rldk_wandb.names import SEQ, number
from rldk_wandb.offline import Axis, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEME: Final = "wandb://"

_T = TypeVar("_T")

_PATIENCE_S: Final = 20
_PAGE: Final = 10_000  # steps of W&B's, which count rows
_EXIT_CODES: Final = {"finished": 0, "failed": 1, "crashed": 1, "killed": 1}


def parsed(source: str) -> tuple[str, str, str] | None:
    """Take apart `wandb://entity/project/id`; None where it is none."""
    parts = [unquote(part) for part in source.removeprefix(SCHEME).strip("/").split("/")]
    if not source.startswith(SCHEME) or len(parts) != 3 or not all(parts):  # noqa: PLR2004  # those three
        return None
    return parts[0], parts[1], parts[2]


def ask(entity: str, project: str, run_id: str, *, base_url: str | None = None) -> Any:  # noqa: ANN401  # wandb.apis.public.Run is not typed
    """Look a run up.

    Raises:
        MissingDependencyError: wandb is not installed.
        Exception: Whatever wandb raises where the server does not answer, or does not know the run.
    """
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError("reading a run from W&B", "wandb", "wandb") from error
    api = wandb.Api(timeout=_PATIENCE_S, overrides={"base_url": base_url} if base_url else None)
    return api.run(f"{entity}/{project}/{run_id}")


class ServedRun:
    """One run on a server, read as one in files is.

    Names that were nested are joined by dots there. The text "NaN" cannot be told from the number.

    Args:
        entity: Whose it is.
        project: The project that it is in.
        run_id: W&B's id of it.

    Raises:
        SourceError: The server does not answer, or does not know the run.
        MissingDependencyError: wandb is not installed.
    """

    def __init__(self, entity: str, project: str, run_id: str) -> None:
        self._path = f"{SCHEME}{entity}/{project}/{run_id}"
        self._asked = self._guarded(lambda: ask(entity, project, run_id))
        self._rows: list[dict[str, Any]] | None = None

    def run(self) -> Run:
        """What the server says of it, but for its history.

        Raises:
            SourceError: The server does not answer.
        """
        return self._guarded(self._run)

    def ours(self) -> Iterator[dict[str, Any]]:
        """The rows of RLDK, in the order in which they were logged.

        Raises:
            SourceError: The server does not answer.
        """
        return (row for row in self._history() if SEQ in row)

    def theirs(self) -> Iterator[dict[str, Any]]:
        """The rows of all others, in the order in which they were logged.

        Raises:
            SourceError: The server does not answer.
        """
        return (row for row in self._history() if SEQ not in row)

    def problems(self) -> list[str]:
        """What the server does not tell; a sentence each."""
        is_open = self.run().exit_code is None
        return [f"{self._path}: the run is still going; its last rows may be missing"] if is_open else []

    def _history(self) -> list[dict[str, Any]]:
        if self._rows is None:
            self._rows = self._guarded(self._scan)
        return self._rows

    def _scan(self) -> list[dict[str, Any]]:
        # Asked for keys, or with what is cached, the same call gives other rows.
        rows = self._asked.scan_history(page_size=_PAGE, use_cache=False)
        return [{name: _value(value) for name, value in row.items() if value is not None} for row in rows]

    def _run(self) -> Run:
        asked = self._asked
        entity, project, run_id = asked.path
        return Run(
            run_id=run_id,
            entity=entity,
            project=project,
            name=asked.name or "",
            notes=asked.notes or "",
            tags=list(asked.tags or []),
            start_time=datetime.fromisoformat(asked.created_at).timestamp(),
            config=dict(asked.config),
            summary=dict(asked.summary_metrics),
            axes=_axes(asked.rawconfig.get("_wandb", {})),
            exit_code=_EXIT_CODES.get(asked.state),
        )

    def _guarded(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except _failures() as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> SourceError:
        remedy = "check the name, the API key and WANDB_BASE_URL, or give the run's own folder"
        return SourceError(self._path, str(error), remedy)


def _failures() -> tuple[type[Exception], ...]:
    """What wandb raises where a server cannot be asked; its library must be there to tell."""
    try:
        from wandb.errors import Error
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    except ImportError:
        return (OSError,)
    return Error, WandbApiFailedError, OSError


def _value(value: object) -> object:
    found = number(value)
    return value if found is None else found


def _axes(told: dict[str, Any]) -> list[Axis]:
    """Read what `define_metric` was told: wandb-core leaves it in the config, by its fields' numbers."""
    listed = [axis for axis in told.get("m") or [] if isinstance(axis, dict)]
    names = [str(axis.get("1") or axis.get("2") or "") for axis in listed]
    return [
        Axis(name, "1" not in axis, _axis_of(axis, names)) for axis, name in zip(listed, names, strict=True)
    ]


def _axis_of(axis: dict[str, Any], names: list[str]) -> str:
    place = axis.get("5")  # counted from 1
    if isinstance(place, int) and 0 < place <= len(names):
        return names[place - 1]
    return str(axis.get("4") or "")
