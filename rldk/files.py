"""How is a file made that nobody else can have prepared: no link is followed, nobody else may write it."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE: Final = 0o664
_FOLDER: Final = 0o775
_PRIVATE: Final = 0o700
_LETTERS: Final = 40  # of which UTF-8 may take four bytes each, and a name may have 255
# Windows has neither, and no links that just anybody can make
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


def append(path: Path) -> BinaryIO:
    """Open a file for reading and for appending, unbuffered; it is made where there is none.

    Its mode is what the umask leaves of `rw-rw-r--`.

    Raises:
        OSError: It cannot be opened, is a symbolic link, or is no regular file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | _NO_LINK | _BINARY
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link, and what it points to is left alone")
    number = os.open(path, flags, _FILE)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(f"{path} is no regular file")
    return cast("BinaryIO", os.fdopen(number, "a+b", buffering=0))


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Give a new, empty file in the same folder, which takes another's place at the end, or is removed.

    Nobody can foresee its name, and where the other is a symbolic link, the link gives way, not its target.

    Raises:
        OSError: It cannot be made, or cannot take the place.
    """
    new = path.with_name(f".{token_hex(8)}.{path.name[-_LETTERS:]}.new")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, _FILE))
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; their mode is what the umask leaves of `rwxrwxr-x`.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    _make(path, _FOLDER)


def make_private(path: Path) -> None:
    """Make a folder, and those above it that are missing, which their owner alone may look into.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    _make(path, _PRIVATE)


def _make(path: Path, mode: int) -> None:
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent, mode)
    path.mkdir(mode=mode, exist_ok=True)
