"""Which files belong to a run: what W&B keeps beside the rows, and what was logged as artifacts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rldk_wandb.offline import Artifact

OURS: Final = "rldk"
"""The type of the artifact that the sink logs."""

_FOLDER: Final = "wandb-files"
_PRIVATE: Final = ("config.yaml", "wandb-metadata.json", "output.log")
"""What may hold secrets: the command's arguments, what it printed, the config (which goes without them)."""
_SHOWN: Final = ("media/html", "rldk")
"""Where wandb puts the report that the sink shows in the workspace; the artifact has it, too."""
_COPIES: Final = "run_table"  # what a logged table becomes, beside its file under `files`


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
