"""What does a W&B server say of a run, and which runs does it have?"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rldk.errors import MissingDependencyError, SourceError
from rldk_wandb.names import SEQ, number
from rldk_wandb.offline import Axis, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rldk_wandb.address import Address

_T = TypeVar("_T")

_PATIENCE_S: Final = 20
_NO_SUCH: Final = "Could not find run"
_PAGE: Final = 10_000  # steps of W&B's, which count rows
_RUNS_PAGE: Final = 200
_EXIT_CODES: Final = {"finished": 0, "failed": 1, "crashed": 1, "killed": 1}


def ask(entity: str, project: str, run_id: str, *, base_url: str | None = None) -> Any:  # noqa: ANN401  # wandb.apis.public.Run is not typed
    """Look a run up.

    Raises:
        MissingDependencyError: wandb is not installed.
        Exception: Whatever wandb raises where the server does not answer, or does not know the run.
    """
    return _api(base_url).run(f"{entity}/{project}/{run_id}")


def knows(run: Address) -> bool | None:
    """Ask whether the server has a run; None where it does not answer, or refuses to."""
    try:
        ask(run.entity, run.project, run.run_id)
    except _failures() as error:
        return False if _NO_SUCH in str(error) else None
    return True


def runs_of(project: Address) -> list[Address]:
    """Name the runs of a project, in the order in which they began.

    Raises:
        SourceError: The server does not answer, or does not know the project.
        MissingDependencyError: wandb is not installed.
    """

    def asked() -> list[Address]:
        api = _api(None)
        path = f"{project.entity}/{project.project}"
        found = api.runs(path, order="+created_at", per_page=_RUNS_PAGE, lazy=True)
        return [project.of(str(run.id)) for run in found]

    return _guarded(project, asked)


def _api(base_url: str | None) -> Any:  # noqa: ANN401  # wandb.Api is not typed
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError("reading a run from W&B", "wandb", "wandb") from error
    return wandb.Api(timeout=_PATIENCE_S, overrides={"base_url": base_url} if base_url else None)


def _guarded(address: Address, question: Callable[[], _T]) -> _T:
    """Ask, and have an error say what to do.

    Raises:
        SourceError: There was no answer.
    """
    try:
        return question()
    except _failures() as error:
        key = os.environ.get("WANDB_API_KEY") or "\0"
        remedy = "check the name, the API key and WANDB_BASE_URL, or give the run's own folder"
        raise SourceError(str(address), str(error).replace(key, "[hidden]"), remedy) from error


class ServedRun:
    """One run on a server, read as one in files is.

    Names that were nested are joined by dots there. The text "NaN" cannot be told from the number.

    Args:
        address: Where it is.

    Raises:
        SourceError: The server does not answer, or does not know the run.
        MissingDependencyError: wandb is not installed.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        names = address.entity, address.project, address.run_id
        self._asked = _guarded(address, lambda: ask(*names))
        self._rows: list[dict[str, Any]] | None = None

    def run(self) -> Run:
        """What the server says of it, but for its history.

        Raises:
            SourceError: The server does not answer.
        """
        return _guarded(self._address, self._run)

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

    def summary(self) -> dict[str, Any]:
        """What W&B shows as the run's numbers."""
        return self.run().summary

    def problems(self) -> list[str]:
        """What the server does not tell; a sentence each."""
        is_open = self.run().exit_code is None
        return [f"{self._address}: the run is still going; its last rows may be missing"] if is_open else []

    def recounted(self) -> str:
        """Whether rows are counted otherwise than W&B does: never, for a server counts on by itself."""
        return ""

    def _history(self) -> list[dict[str, Any]]:
        if self._rows is None:
            self._rows = _guarded(self._address, self._scan)
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


def _failures() -> tuple[type[Exception], ...]:
    """What wandb raises where a server cannot be asked; its library must be there to tell."""
    try:
        from wandb.errors import Error
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    except ImportError:
        return (OSError,)
    return Error, WandbApiFailedError, OSError, ValueError  # ValueError: it does not know the project


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
