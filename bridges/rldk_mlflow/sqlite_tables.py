"""How is a SQLite file read without changing anything, whoever else may be writing it?"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rldk_mlflow.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HEAD: Final = b"SQLite format 3\0"
_MARKS: Final = {"metrics", "runs"}
_BY_RUN: Final = "index_metrics_run_uuid_key_step"
_PATIENCE_S: Final = 10.0
_AT_ONCE: Final = 500  # larger batches are slower: Python's garbage collector looks through them
_WRITE_VERSION: Final = 18  # https://www.sqlite.org/fileformat2.html#file_format_version_numbers
_WAL: Final = 2


def is_mlflow(path: Path) -> bool:
    """Whether a file is a SQLite database with MLflow's tables; one that is damaged may be."""
    try:
        if not _head(path).startswith(_HEAD):
            return False
        with opened(path) as tables:
            return tables.names() >= _MARKS
    except StoreError:
        return True
    except (OSError, ValueError):
        return False


@contextmanager
def opened(path: Path) -> Iterator[SqliteTables]:
    """Open a file for reading.

    Raises:
        StoreError: It is not there, is no database, is damaged, or stays locked for longer than 10 s.
    """
    try:
        yield from _opened(path)
    except sqlite3.Error as error:
        busy = getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        remedy = "try again once its writer is done" if busy else "check the path, or copy the file anew"
        raise StoreError(f"{path}: SQLite says: {error}", remedy) from error


def _opened(path: Path) -> Iterator[SqliteTables]:
    if not path.exists():
        raise StoreError(f"there is no {path}", "check the path")
    if not path.is_file():
        raise StoreError(f"{path} is no file", "check the path")
    is_still, before = _is_still(path), _written(path)
    how = "mode=ro&immutable=1" if is_still else "mode=ro"
    uri = f"file:{quote(str(path.absolute()))}?{how}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)) as connection:
        yield SqliteTables(connection)
    if is_still and (not _is_still(path) or _written(path) != before):
        raise StoreError(f"{path} was written while it was read", "try again")


def _written(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_mtime_ns, told.st_size


def _is_still(path: Path) -> bool:
    """Whether a file keeps a log beside it when it is written, and there is none.

    SQLite would make that log even to read, and could not where the folder is read-only:
    https://www.sqlite.org/wal.html#read_only_databases
    """
    head = _head(path)
    return len(head) > _WRITE_VERSION and head[_WRITE_VERSION] == _WAL and not _log(path)


def _log(path: Path) -> int:
    """How long the log beside a file is, in bytes."""
    beside = Path(f"{path}-wal")
    return beside.stat().st_size if beside.exists() else 0


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(len(_HEAD) + 4)


class SqliteTables:
    """The tables of an open SQLite file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._hints: dict[str, str] = {}

    def names(self) -> set[str]:
        """Which tables there are."""
        found = self._connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        return {str(name) for (name,) in found}

    def rows(
        self, table: str, columns: Sequence[str], where: Mapping[str, object]
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Read the rows in which columns have these values, many at once."""
        # In brackets: what stands in quotes and is no column, SQLite takes for a text
        named = ", ".join(f"[{column}]" for column in columns)
        tests = " AND ".join(f"[{column}] = ?" for column in where)
        query = f"SELECT {named} FROM [{table}] {self._hint(table)} WHERE {tests}"  # noqa: S608  # names of ours alone
        with closing(self._connection.execute(query, tuple(where.values()))) as cursor:
            while found := cursor.fetchmany(_AT_ONCE):
                yield found

    def _hint(self, table: str) -> str:
        """Have SQLite look up the run's points alone: by itself it goes through those of all runs."""
        if table != "metrics":
            return ""
        if table not in self._hints:
            several = len(self._connection.execute("SELECT 1 FROM runs LIMIT 2").fetchall()) > 1
            asked = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?"
            has_index = self._connection.execute(asked, (_BY_RUN,)).fetchone() is not None
            self._hints[table] = f"INDEXED BY [{_BY_RUN}]" if several and has_index else ""
        return self._hints[table]
