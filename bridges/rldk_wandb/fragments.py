"""Which files hold one run, who still writes to them, and how far do they go?

Each time that a run is opened, wandb begins a new folder, `wandb/offline-run-<time>-<id>` or
`wandb/run-<time>-<id>`, and a `.wandb` file in it: a fragment of the run.
"""

from __future__ import annotations

import glob
import re
import time
from typing import TYPE_CHECKING, Final

import psutil

from rldk_wandb.blocks import is_wandb_file
from rldk_wandb.names import SEQ, TIME
from rldk_wandb.offline import WandbFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CORE: Final = "wandb-core"
_FAREWELL_S: Final = 5.0  # what a wandb-core whose python was killed takes to notice is 0.1 s
_GLANCE_S: Final = 0.02
_STAMP: Final = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.*)")


def in_folder(folder: Path) -> list[Path]:
    """Give the `.wandb` files of a run's own folder, or of a folder of runs, those that began first first."""
    found = [*folder.glob("run-*.wandb"), *folder.glob("*run-*/run-*.wandb")]
    return sorted(filter(is_wandb_file, found), key=_order)


def of_run(folder: Path, run_id: str) -> list[Path]:
    """Give the fragments of one run in a folder of runs, those that began first first."""
    found = folder.glob(f"*run-*/run-{glob.escape(run_id)}.wandb")
    return sorted(filter(is_wandb_file, found), key=_order)


def beside(path: Path) -> list[Path]:
    """Give all fragments of the run of which one is given: the same id, and the same project."""
    files = of_run(path.parent.parent, path.stem.removeprefix("run-"))
    return [file for file in files if file == path] and of_project(files, _project(path))


def of_project(files: Iterable[Path], project: str) -> list[Path]:
    """Leave out the files of runs of the same id in another project; the newest do not say theirs yet."""
    return [file for file in files if not project or _project(file) in {project, ""}]


def began(path: Path) -> float:
    """When the run was opened that a file is of, seconds since the epoch; 0 where it does not say."""
    return WandbFile(path).beginning().start_time


def _project(path: Path) -> str:
    return WandbFile(path).beginning().project


def _order(path: Path) -> tuple[str, int, str]:
    stamp = _STAMP.fullmatch(path.parent.name)
    # Of several that began in one second, the later have a number behind: -1, -2.
    return (stamp[1] if stamp else "", len(path.parent.name.removeprefix("offline-")), str(path))


def last_time(files: Iterable[Path]) -> float:
    """Time of the last row of RLDK's in any of the files; 0 for none."""
    return max((_last_time(WandbFile(file)) for file in files), default=0.0)


def _last_time(file: WandbFile) -> float:
    row = file.last_row(SEQ) or {}
    at = row.get(TIME)
    return round(float(at), 3) if isinstance(at, int | float) else 0.0


def await_writers(files: Iterable[Path]) -> None:
    """Wait until nobody writes to the files any more, but not for long.

    A wandb-core whose python was killed lives on for a moment, and may still write what it holds.
    """
    watched = {str(file.resolve()) for file in files if not WandbFile(file).has_ended()}
    patience = time.monotonic() + _FAREWELL_S
    while watched and watched & _open_files() and time.monotonic() < patience:
        time.sleep(_GLANCE_S)


def _open_files() -> set[str]:
    """Which files any wandb-core holds open, as far as we may know."""
    return {path for process in psutil.process_iter(["name"]) for path in _files_of(process)}


def _files_of(process: psutil.Process) -> list[str]:
    if process.info["name"] != _CORE:
        return []
    try:
        return [file.path for file in process.open_files()]
    except psutil.Error:  # it has just ended, or is somebody else's
        return []
