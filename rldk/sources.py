"""Who reads a source, and which single runs does it hold."""

from __future__ import annotations

import fnmatch
import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk import bridge
from rldk.adapters import unrecognised
from rldk.errors import SettingError, SourceError, UnknownSourceError

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
_MOST_NAMED: Final = 20
_ADDRESSES: Final = (
    "give wandb://ENTITY/PROJECT/ID or the address of a page of W&B's, or of MLflow's TRACKING_URI#runs/ID "
    "or TRACKING_URI#experiments/NAME (docs/sources.md)"
)


class RunSource(NamedTuple):
    """The source of a single run, and who reads it; other processes can be sent it."""

    kind: type[Adapter]
    source: str

    def open(self) -> Adapter:
        """Give a new reader of it."""
        return self.kind(self.source)

    def place(self) -> str:
        """Give the source by its one name, from whatever folder and by whatever link it was given."""
        path = Path(self.source)
        if _exists(path):
            return os.path.realpath(path)
        if _is_pattern(path):
            return str(Path(os.path.realpath(path.parent), path.name))
        return self.source

    def files(self) -> list[Path]:
        """List the files of this machine that are read, or may be; none where it is on a server."""
        inputs = getattr(self.open(), "inputs", None)
        if inputs is not None:
            try:
                return list(inputs())
            except SourceError:  # of which the reading will tell
                return []
        path = Path(self.source)
        if _is_pattern(path):
            before, _, behind = path.name.rpartition("*")
            return list(path.parent.glob(f"{glob.escape(before)}*{glob.escape(behind)}"))
        if not _exists(path):
            return []
        return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


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
    runs: dict[RunSource, None] = {}  # two folders of one W&B run are one source
    problems: list[str] = []
    for each in [source] if isinstance(source, str | Path) else source:
        adapter = find_adapter(expanded(each), hint)
        runs |= dict.fromkeys(RunSource(type(adapter), run) for run in adapter.runs())
        problems += adapter.problems
    return Found(list(runs), problems)


def is_wanted(run_id: str, patterns: Iterable[str] | None) -> bool:
    """Whether a run is one of those that were asked for: by its id, a pattern with `*` and `?`, or `all`."""
    if patterns is None:
        return True
    return any(
        each in {"all", run_id} or fnmatch.fnmatchcase(run_id, each.replace("[", "[[]")) for each in patterns
    )


def none_wanted(patterns: Iterable[str], there: Iterable[str]) -> SettingError:
    """Say that of the runs that are there none is one of those that were asked for."""
    ids = sorted(set(there))
    named = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
    return SettingError("--runs", ", ".join(patterns), f"all, or ids of these runs: {named}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or not a name at all
        return False


def _is_pattern(path: Path) -> bool:
    """Whether it names files of a folder by a `*`, as sources of `wandb_history` do."""
    return "*" in path.name and not _exists(path) and _exists(path.parent)


def expanded(source: str | Path) -> str:
    """Give a source as text, with the user's home folder in it where it begins with `~`.

    Raises:
        SourceError: It is empty.
    """
    if not str(source).strip():
        raise SourceError(repr(str(source)), "it names nothing", "give a file, a folder or an address")
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
    raise UnknownSourceError(source, installed, *_why(source))


def _why(source: str) -> unrecognised.Why:
    """Say why no adapter recognises a source."""
    if "://" in source:
        return unrecognised.Why("no adapter takes such an address", _ADDRESSES)
    if not _exists(Path(source)):
        remedy = f"check the path; {unrecognised.LISTED}"
        return unrecognised.Why("there is no such file or folder", remedy)
    return unrecognised.why(Path(source))


def _turn(name: str) -> tuple[int, str]:
    """Adapters of third parties are asked first, and those that would read nearly anything last."""
    return _LAST.index(name) if name in _LAST else -1, name
