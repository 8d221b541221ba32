"""What does trackio's database of a project hold? It is only read, and trackio need not be installed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD: Final = b"SQLite format 3\0"
_MARKS: Final = {"metrics", "configs", "system_metrics", "project_metadata"}
_PATIENCE_S: Final = 10.0


class Row(NamedTuple):
    """One row of a run: its id, who wrote it, step, time in ISO 8601, and what it holds."""

    log_id: str
    run_name: str
    step: int
    timestamp: str
    metrics: dict[str, Any]


class File(NamedTuple):
    """A file of an artifact: its path there, and where trackio keeps its content."""

    path: str
    blob: Path


def is_trackio(path: Path) -> bool:
    """Whether a file is a database of trackio's; never raises."""
    try:
        with path.open("rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                return False
        with _opened(path) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {name for (name,) in tables} >= _MARKS
    except (sqlite3.Error, OSError, ValueError):
        return False


class Database:
    """A project's database.

    Args:
        path: The file.
        source: What it was given as, for messages.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self._source = source

    def run_ids(self) -> list[str]:
        """The ids of its runs, in the order in which they began."""
        return [
            run_id for (run_id,) in self._all("SELECT run_id FROM metrics GROUP BY run_id ORDER BY MIN(id)")
        ]

    def rows(self, run_id: str) -> list[Row]:
        """All rows of a run, in the order in which they were written."""
        query = "SELECT log_id, run_name, step, timestamp, metrics FROM metrics WHERE run_id = ? ORDER BY id"
        found = self._all(query, run_id)
        return [Row(log_id or "", name, step, at, json.loads(said)) for log_id, name, step, at, said in found]

    def config(self, run_id: str) -> dict[str, Any]:
        """A run's config."""
        found = self._all("SELECT config FROM configs WHERE run_id = ?", run_id)
        return dict(json.loads(found[0][0])) if found else {}

    def files(self, run_id: str) -> list[File]:
        """The files of the newest version of each artifact that a run has logged."""
        query = """
            SELECT manifest, MAX(version) FROM run_artifact_links
            JOIN artifact_versions ON artifact_versions.id = artifact_version_id
            WHERE run_id = ? AND direction = 'output' GROUP BY artifact_id
        """
        blobs = self.path.parent / "artifacts" / self.path.stem / "blobs" / "sha256"
        entries = [entry for manifest, _ in self._all(query, run_id) for entry in json.loads(manifest)]
        return [
            File(entry["path"], blobs / entry["digest"][:2] / entry["digest"])
            for entry in entries
            if "ref" not in entry
        ]

    def _all(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with _opened(self.path) as database:
                return database.execute(query, values).fetchall()
        except (sqlite3.Error, ValueError) as error:
            remedy = "check that it is the database of a trackio project"
            raise SourceError(self._source, f"SQLite says: {error}", remedy) from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as connection:
        yield connection
