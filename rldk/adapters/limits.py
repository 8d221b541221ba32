"""How is a file read that may be compressed, damaged, or made to do harm."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from rldk.errors import MissingDependencyError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LONGEST_LINE: Final = 16 * 2**20
"""Bytes; a row of 100,000 numbers is shorter."""
MOST_NAMES: Final = 100_000
"""Different metrics, or columns, of one source."""

DAMAGE: Final = (EOFError, OSError, zlib.error)
"""What reading an opened file raises where it is damaged, or cannot be read any further."""

_HEAD: Final = 2**20
_LONGEST_SKIPPED: Final = 2**30
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1
_MOST_ZSTD_WINDOW: Final = 128 * 2**20  # what `zstd -d` allows; a frame may ask for terabytes
_ZSTD_PIECE: Final = 1024  # which can hold 256 blocks of 128 KiB: what is unpacked at once is bounded so


def opened(path: Path) -> BinaryIO:
    """Open a file for reading; what gzip or zstd have compressed is decompressed on the way.

    Raises:
        SourceError: It is no file, or may not be read.
        MissingDependencyError: It is compressed by zstd, and zstandard is not installed.
    """
    try:
        if not path.is_file():  # a pipe would never end, and to open it may never return
            reason = "it is no file" if path.exists() else "there is no such file"
            raise SourceError(str(path), reason, "check the path")
        with path.open("rb") as file:
            mark = file.read(len(_ZSTD))
        if mark.startswith(_GZIP):
            return cast("BinaryIO", gzip.open(path))
        return _zstd(path) if mark == _ZSTD else path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it
        raise SourceError(str(path), str(error), "check the path and its permissions") from error


def head(path: Path, size: int = _HEAD) -> bytes:
    """Give the first bytes of what a file holds; none where it cannot be read."""
    try:
        with opened(path) as file:
            return file.read(size)
    except (SourceError, MissingDependencyError, *DAMAGE):
        return b""


def is_zstd(path: Path) -> bool:
    """Whether a file is compressed by zstd; False where it cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_ZSTD)) == _ZSTD
    except (OSError, ValueError):
        return False


def lines(path: Path, problems: list[str], longest: int = LONGEST_LINE) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file with their numbers, from 1; the last one may lack its newline.

    Memory is bounded by one line. What is left out is told in `problems`: lines that are too long, and
    the rest of a file that is damaged.

    Raises:
        SourceError: It is no file, or may not be read.
        MissingDependencyError: It is compressed by zstd, and zstandard is not installed.
    """
    long: list[int] = []
    number = 0
    with opened(path) as file:
        try:
            while line := file.readline(longest):
                number += 1
                if len(line) < longest or line.endswith(b"\n"):
                    yield number, line
                    continue
                long.append(number)
                if not _skip_line(file, longest):
                    what = f"line {number} is longer than {_LONGEST_SKIPPED >> 30} GiB, the rest is not read"
                    problems.append(f"{path}: {what}")
                    break
        except DAMAGE as error:
            problems.append(f"{path}: damaged after line {number}, the rest cannot be read: {error}")
    if long:
        what = f"{len(long)} lines are longer than {longest >> 20} MiB and were skipped"
        problems.append(f"{path}: {what}, the first is line {long[0]}")


def _skip_line(file: BinaryIO, piece: int) -> bool:
    """Pass over the rest of a line; False where it goes on for so long that nobody can have meant it."""
    for _ in range(_LONGEST_SKIPPED // piece):
        rest = file.readline(piece)
        if not rest or rest.endswith(b"\n"):
            return True
    return False


class Names:
    """Counts the different names of a source, and ends the reading where they are too many to be names.

    Args:
        source: What is read.
        what: What the names are of.
    """

    def __init__(self, source: str, what: str = "metrics") -> None:
        self._source = source
        self._what = what
        self._seen: set[str] = set()

    def add(self, names: Iterable[str]) -> None:
        """Note names.

        Raises:
            SourceError: They are more than 100,000 with those noted before.
        """
        self._seen.update(names)
        if len(self._seen) > MOST_NAMES:
            reason = f"it holds more than {MOST_NAMES:,} different {self._what}"
            raise SourceError(self._source, reason, "check that the keys are names, not values")


def _zstd(path: Path) -> BinaryIO:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        raise MissingDependencyError(f"reading {path}", "zstandard", "zstd") from error
    return cast("BinaryIO", io.BufferedReader(_ZstdFile(path, zstandard)))


class _ZstdFile(io.RawIOBase):
    """A zstd file as Python's own files are: it can seek, and its end is an error where a frame is cut off.

    zstandard's own stream reader takes the end of a torn file for that of a whole one.
    """

    def __init__(self, path: Path, zstandard: Any) -> None:  # noqa: ANN401  # an optional module
        super().__init__()
        self._failure = zstandard.ZstdError
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=_MOST_ZSTD_WINDOW)
        self._file = path.open("rb")
        self._held = memoryview(b"")
        self._pos = 0
        self._is_begun = False
        self._frame: Any = self._unpacker.decompressobj()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._pos if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a compressed file is not known")
        if target < self._pos:
            self._rewind()
        while self._pos < target and self.read(min(target - self._pos, _HEAD)):
            pass
        return self._pos

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any writable buffer
        while not self._held and self._unpack():
            pass
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        self._pos += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._frame = self._unpacker.decompressobj()
        self._is_begun = False
        self._held = memoryview(b"")
        self._pos = 0

    def _unpack(self) -> bool:
        """Unpack the next few bytes; False at the end."""
        packed = (self._frame.unused_data if self._frame.eof else b"") or self._file.read(_ZSTD_PIECE)
        if self._frame.eof and packed:
            self._frame = self._unpacker.decompressobj()
        if not packed:
            if self._is_begun and not self._frame.eof:
                raise EOFError("it ends inside a zstd frame")
            return False
        self._is_begun = True
        try:
            self._held = memoryview(self._frame.decompress(packed))
        except self._failure as error:
            raise OSError(str(error)) from error
        return True
