"""Do versions, settings and disk fit? Asks nobody outside this process."""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import tempfile
from typing import TYPE_CHECKING, Final

from rldk import settings
from rldk._version import __version__
from rldk.doctor.finding import Finding
from rldk.errors import NoPPOError, SettingError
from rldk.versions import LIBRARIES, installed, misfits, release

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PREFIX: Final = "RLDK_"
_ELSEWHERE: Final = frozenset({"RLDK_DEBUG"})
_LEAST_FREE_BYTES: Final = 2**30


def versions(trainer: str = "") -> Iterator[Finding]:
    """Which versions are installed, and do they fit each other, RLDK and the trainer?"""
    yield Finding("versions", "python", "ok", platform.python_version())
    yield Finding("versions", "rldk", "ok", __version__)
    wrong = misfits()
    for library in LIBRARIES:
        version = installed(library)
        extra = library if library in {"mlflow", "wandb"} else "trl"
        if version is None:
            yield Finding(
                "versions", library, "note", "not installed", f"pip install 'rldk[{extra}]' to use it"
            )
        elif all(misfit.library != library for misfit in wrong):
            yield Finding("versions", library, "ok", version)
    for misfit in wrong:
        yield Finding("versions", misfit.library, "problem", misfit.told, misfit.remedy)
    trl = installed("trl")
    if trainer == "PPO" and trl is not None and release(trl) > release(NoPPOError.LAST_TRL_WITH_PPO):
        told, _, remedy = str(NoPPOError(trl)).partition("; run: ")
        yield Finding("versions", "trl", "problem", told, remedy)


def environment(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Are the settings that the environment holds what they can be?"""
    known = {_PREFIX + name.upper() for name in settings.Settings.__struct_fields__} | _ELSEWHERE
    given = sorted(name for name in environ if name.startswith(_PREFIX))
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            remedy = f"write {near[0]}" if near else "docs/guide.md lists them all"
            yield Finding(
                "settings", name, "warning", "no setting has this name, so that it does nothing", remedy
            )
    try:
        settings.from_environment(environ)
    except SettingError as error:
        told, _, remedy = str(error).partition("; ")
        yield Finding("settings", "environment", "problem", told, remedy)
    else:
        names = ", ".join(name for name in given if name in known)
        yield Finding(
            "settings", "environment", "ok", f"valid: {names}" if names else "nothing is set: defaults"
        )


def disk(folder: Path) -> Iterator[Finding]:
    """Can a journal be written there, locked, and is there room?

    Args:
        folder: The output_dir; it need not exist yet, and is not made.
    """
    there = _nearest(folder)
    if not there.is_dir():
        name = "it" if there == folder.absolute() else str(there)
        yield Finding("disk", str(folder), "problem", f"{name} is a file", "choose another output_dir")
        return
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"rldk doctor\n")
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(
            "disk", str(folder), "problem", f"cannot be written ({reason})", "choose another output_dir"
        )
        return
    free = shutil.disk_usage(there).free
    told = f"writable, {free / 2**30:.3g} GiB free" + ("" if there == folder.absolute() else f" (in {there})")
    if free < _LEAST_FREE_BYTES:
        yield Finding("disk", str(folder), "warning", told, "free some: checkpoints and journal need room")
        return
    yield Finding("disk", str(folder), "ok", told)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest thing above it that exists."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return there
