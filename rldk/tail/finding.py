"""Which journal is meant: a file, the newest one of a folder, or the id of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk.errors import SourceError
from rldk.identity import safe_name
from rldk.journal import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_USUAL: Final = "rldk"
"""The folder that `RLDKCallback` makes in the trainer's output_dir."""


def find(run: str) -> Path:
    """Find the journal that is meant.

    Args:
        run: A journal; a folder of journals, or a trainer's output_dir, for the newest one in it; or a
            run's id, for its journal in `rldk/` or here.

    Raises:
        SourceError: There is none.
    """
    path = Path(run).expanduser()
    try:
        if path.is_file():
            return path
        found = list(_in_folder(path)) if path.is_dir() else list(_called(run))
    except (OSError, ValueError) as error:  # a name that no file can have
        raise SourceError(run, str(error), "give a journal, its folder, or a run's id") from error
    if found:
        return max(found, key=_written_at)
    if path.is_dir():
        raise SourceError(run, f"it holds no journal (*{SUFFIX})", "give the output_dir of RLDKCallback")
    raise SourceError(
        run, "there is no such file, folder or run", f"give a journal, its folder, or an id of {_USUAL}/"
    )


def _in_folder(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / _USUAL):
        yield from (path for path in place.glob(f"*{SUFFIX}") if path.is_file())


def _called(run_id: str) -> Iterator[Path]:
    for place in (Path(_USUAL), Path()):
        for name in dict.fromkeys((run_id, safe_name(run_id))):
            path = place / f"{name}{SUFFIX}"
            if path.is_file():
                yield path


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
