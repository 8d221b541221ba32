"""Which files belong to a run: what W&B keeps beside the rows, and what is logged as artifacts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk.bridge import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import wandb

    from rldk_wandb.offline import Artifact

_logger = logger(__name__)

OURS: Final = "rldk"
"""The type of the artifact that the sink logs."""

MOST_BYTES: Final = 2**30
"""What such an artifact may hold, for W&B first copies all of it on this disk."""

_ABOUT: Final = "What RLDK recorded of this run: the journal, and what was made of it."
_NOT_IN_ARTIFACT_NAMES: Final = re.compile(r"[^\w.-]", re.ASCII)
_LONGEST_ARTIFACT_NAME: Final = 128

_FOLDER: Final = "wandb-files"
_PRIVATE: Final = ("config.yaml", "wandb-metadata.json", "output.log")
"""What may hold secrets: the command's arguments, what it printed, the config (which goes without them)."""
_SHOWN: Final = ("media/html", "rldk")
"""Where wandb puts the report that the sink shows in the workspace; the artifact has it, too."""
_COPIES: Final = "run_table"  # what a logged table becomes, beside its file under `files`


def log(run: wandb.Run, paths: Sequence[Path]) -> bool:
    """Log files and folders as one artifact of the run; tell whether there was anything to log.

    What is too large for it stays where it is, and a warning says so.

    Raises:
        UsageError: The run is finished.
    """
    held = list(_fitting(run.id, paths))
    if not held:
        return False
    import wandb

    name = _NOT_IN_ARTIFACT_NAMES.sub("-", f"rldk-{run.id}")[:_LONGEST_ARTIFACT_NAME]
    artifact = wandb.Artifact(name, type=OURS, description=_ABOUT)
    for path in held:
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path), name=path.name)
    run.log_artifact(artifact)
    return True


def _fitting(run_id: str, paths: Sequence[Path]) -> Iterator[Path]:
    """The smallest first, so that a large journal costs no report."""
    room = MOST_BYTES
    for size, path in sorted((_size(path), path) for path in paths):
        room -= size
        if room >= 0:
            yield path
        else:
            text = "wandb: %s (%d MiB) is not in the artifact of run %s, which takes %d MiB; it stays there"
            _logger.warning(text, path, size // 2**20, run_id, MOST_BYTES // 2**20)


def _size(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


def fetch(
    fragments: Sequence[Path], artifacts: Mapping[str, Artifact], into: Path
) -> tuple[list[Path], list[str]]:
    """Copy a run's files: W&B's own into one folder, each artifact into a folder of its name.

    What RLDK has logged comes as it was given: files as files, folders as folders.

    Returns:
        Files and folders, and what is missing, a sentence each.
    """
    missing: list[str] = []
    found = _own_files(fragments, into / _FOLDER)
    for artifact in artifacts.values():
        if artifact.type == _COPIES:
            continue
        folder = into / artifact.name
        lost = [name for name, place in artifact.files.items() if not _copied(place, folder, name)]
        missing += [f"artifact {artifact.name}: {name} is not on this disk" for name in lost]
        if folder.is_dir():
            found += sorted(folder.iterdir()) if artifact.type == OURS else [folder]
    return found, missing


def _own_files(fragments: Sequence[Path], into: Path) -> list[Path]:
    several = len(fragments) > 1
    for fragment in fragments:
        if (files := fragment.parent / "files").is_dir() and any(files.iterdir()):
            target = into / fragment.parent.name if several else into
            shutil.copytree(files, target, ignore=_left_out)
    return [into] if into.is_dir() else []


def _left_out(folder: str, names: list[str]) -> set[str]:
    shown, ours = _SHOWN
    is_shown = Path(folder).match(shown)
    return {name for name in names if name in _PRIVATE or (is_shown and name == ours)}


def _copied(place: str, folder: Path, name: str) -> bool:
    target = (folder / name).resolve()
    if not place or not Path(place).is_file() or not target.is_relative_to(folder.resolve()):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(place, target)
    return True
