"""Who reads a source, and which single runs does it hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk import bridge
from rldk.errors import UnknownSourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rldk.bridge import Adapter

_LAST: Final = (
    "mlflow",
    "wandb",
    "trl",
    "mlflow_folder",
    "trainer_state",
    "tensorboard",
    "wandb_history",
    "metrics_table",
    "jsonl",
    "table",
)


class RunSource(NamedTuple):
    """The source of a single run, and who reads it; other processes can be sent it."""

    kind: type[Adapter]
    source: str

    def open(self) -> Adapter:
        """Give a new reader of it."""
        return self.kind(self.source)


class Found(NamedTuple):
    """The single runs of some sources, in order, and what could not be read of those, a sentence each."""

    runs: list[RunSource]
    problems: list[str]


def listed(source: str | Path | Iterable[str | Path], hint: str | None = None) -> Found:
    """List the single runs of a source, or of several.

    Args:
        source: As `rldk.ingest.ingest_runs` takes it.
        hint: Name of the adapter to use.

    Raises:
        UnknownSourceError: No adapter recognises a source.
        UnknownBridgeError: No adapter has the name of the hint.
        SourceError: A source as a whole cannot be read.
    """
    found = Found([], [])
    for each in [source] if isinstance(source, str | Path) else source:
        adapter = find_adapter(expanded(each), hint)
        found.runs.extend(RunSource(type(adapter), run) for run in adapter.runs())
        found.problems.extend(adapter.problems)
    return found


def expanded(source: str | Path) -> str:
    """Give a source as text, with the user's home folder in it where it begins with `~`."""
    is_home = str(source).startswith("~")
    return str(Path(source).expanduser() if is_home else source)


def find_adapter(source: str, hint: str | None = None) -> Adapter:
    """Find who reads a source: the adapter that is named, else the first that recognises it.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No adapter has the name of the hint.
    """
    if hint is not None:
        return bridge.adapter(hint)(source)
    installed = bridge.adapters()
    for name in sorted(installed, key=_turn):
        adapter = installed[name](source)
        if adapter.can_handle():
            return adapter
    raise UnknownSourceError(source, installed)


def _turn(name: str) -> tuple[int, str]:
    """Adapters of third parties are asked first, and those that would read nearly anything last."""
    return _LAST.index(name) if name in _LAST else -1, name
