"""What are the files of a data set, and what does each tell of itself?"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from rldk import files
from rldk.errors import MissingDependencyError, TargetError
from rldk.export import arrow
from rldk.reading import called_alike
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")

PREFIX: Final = "part-"
ENDING: Final = ".parquet"
_KEY: Final = b"rldk"
_S3: Final = ("s3://", "s3a://")


class Named(msgspec.Struct, frozen=True):
    """What a run that RLDK did not record is called in the data set, and since when: who was first keeps it.

    Attributes:
        name: Its id in the data set.
        since: When the call began that wrote it first, in seconds since the epoch.
    """

    name: str
    since: float


class Told(msgspec.Struct, kw_only=True):
    """What a file of the data set tells of itself, in its Parquet metadata.

    Attributes:
        stamp: In which state the source was read, with which settings, by which version; empty where that
            cannot be told, so that it is read again.
        own: The ids of its runs that RLDK recorded.
        raw: Its other runs, by the ids as they came.
        problems: What could not be read, a sentence each.
    """

    stamp: str
    own: list[str]
    raw: dict[str, Named]
    problems: list[str]

    def said(self) -> list[str]:
        """What there is to say of the file: the problems, and which runs are not called as they came."""
        alike = [called_alike(run_id, run.name) for run_id, run in self.raw.items() if run.name != run_id]
        return [*self.problems, *map(redact_text, alike)]


class Part(NamedTuple):
    """What a file of the data set is known by: its columns, and what it tells of itself."""

    columns: list[str]
    told: Told


class Files:
    """The files of one data set."""

    def __init__(self, fs: Any, path: str) -> None:  # noqa: ANN401  # fsspec.AbstractFileSystem
        self.fs = fs
        self.path = path

    def names(self) -> list[str]:
        """Name all of them, RLDK's or not."""
        self.fs.invalidate_cache()
        found = (
            str(each["name"]).rsplit("/", 1)[-1]
            for each in self.fs.ls(self.path, detail=True)
            if each["type"] == "file"
        )
        return sorted(name for name in found if name.startswith(PREFIX) and name.endswith(ENDING))

    def part(self, name: str) -> Part | None:
        """What a file is known by; None where there is none, it is damaged, or RLDK did not write it."""
        return self.read(name, _part)

    def read(self, name: str, get: Callable[[Any], _T | None]) -> _T | None:
        """Get something out of a `pyarrow.parquet.ParquetFile`; None where it is missing or damaged."""
        try:
            with self.fs.open(f"{self.path}/{name}", "rb") as file:
                return get(arrow().parquet.ParquetFile(file))
        except (FileNotFoundError, arrow().ArrowException):
            return None
        except OSError as error:
            if error.errno is not None:  # Arrow's own, which tell of damage, have none
                raise
            return None

    def write(self, name: str, table: Any, told: Told) -> None:  # noqa: ANN401  # pyarrow.Table
        """Write a file; it appears whole or not at all, and an upload begins when all of it is there."""
        table = table.replace_schema_metadata({_KEY: msgspec.json.encode(told)})
        body = arrow().BufferOutputStream()
        arrow().parquet.write_table(table, body)
        content = body.getvalue().to_pybytes()
        if "file" not in self.fs.protocol:
            self.fs.pipe_file(f"{self.path}/{name}", content)
            return
        with files.replacement(Path(self.path, name)) as new:
            new.write_bytes(content)


def _part(file: Any) -> Part | None:  # noqa: ANN401  # pyarrow.parquet.ParquetFile
    schema = file.schema_arrow
    try:
        return Part(schema.names, msgspec.json.decode((schema.metadata or {}).get(_KEY, b""), type=Told))
    except msgspec.MsgspecError:
        return None


def whole(file: Any) -> Any:  # noqa: ANN401  # a pyarrow.Table of the same
    """All that a file holds, for `Files.read`."""
    return file.read()


@contextmanager
def opened(target: str, storage: Mapping[str, Any]) -> Iterator[Files]:
    """Open a data set, for reading and for writing.

    Args:
        target: The folder or URL.
        storage: Options of the file system, as fsspec takes them.

    Raises:
        TargetError: What is done inside fails.
        MissingDependencyError: pyarrow, or what the file system needs, is not installed.
    """
    extra = "s3" if target.startswith(_S3) else "parquet"
    for library in ("pyarrow", "fsspec"):
        if find_spec(library) is None:
            raise MissingDependencyError("a data set", library, extra)
    fsspec = importlib.import_module("fsspec.core")
    shown = redact_text(target)
    remedy = "check the folder or URL, its credentials, and that its place can be reached"
    try:
        fs, path = fsspec.url_to_fs(target, **storage)
        yield Files(fs, path.rstrip("/"))
    except ImportError as error:
        if extra == "s3":
            raise MissingDependencyError("a data set in S3", "s3fs", extra) from error
        raise TargetError(shown, str(error), "install what fsspec needs for it") from error
    except _failures() as error:
        raise TargetError(shown, redact_text(str(error) or type(error).__name__), remedy) from error


def _failures() -> tuple[type[Exception], ...]:
    """What file systems raise; S3's library has exceptions that are no OSError."""
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError, ValueError) if botocore is None else (OSError, ValueError, botocore.BotoCoreError)
