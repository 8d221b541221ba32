"""How does a TrainingMetrics table that RLDK wrote give back its events: CSV, JSONL, Parquet, a data set."""

from __future__ import annotations

import heapq
import importlib
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import msgspec

from rldk.adapters import limits
from rldk.adapters.flat_jsonl import json_rows, plain_name
from rldk.adapters.metrics_rows import TEXTS, Cells, Row, Runs, json_row
from rldk.adapters.raw import Skips, number
from rldk.adapters.table_files import csv_table, delimiter_of, is_parquet, parquet_names, parquet_table
from rldk.errors import MissingDependencyError, SourceError
from rldk.schema import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.event import Event

_SUFFIX: Final = ".parquet"
_HIDDEN: Final = (".", "_")
_MOST_FILES: Final = 100_000
_FILES_JUDGED: Final = 20
_LINES_JUDGED: Final = 20
_PHASES: Final = frozenset({"train", "eval"})
_ENDINGS: Final = tuple(f"_metrics.{form}.zst" for form in ("csv", "jsonl"))
_INDEX: Final = re.compile(r"__index_level_\d+__")  # as which pandas keeps an index in Parquet
_REMEDY: Final = "give a table that RLDK wrote, or see rldk.schema.conformed"


class MetricsTableAdapter:
    """Reads what `rldk ingest --output` writes: a CSV, JSONL or Parquet file, or a folder of Parquet files.

    Such a table is known by its columns, whatever it is called, and is read as what it is: its names stay
    as they are, and missing, NaN and the infinities apart. CSV and JSONL may be compressed by gzip or zstd.
    A folder is a data set: its files are parts of one table, but for those whose names begin with `_` or `.`.

    The table does not keep everything of a journal: of a later start of training the first row is known, and
    not the step from which it went on; columns without any value do not come back.

    Args:
        source: Path of the file or the folder.

    Attributes:
        problems: What was skipped, a sentence each.
    """

    name: ClassVar[str] = "metrics_table"

    def __init__(self, source: str | Path) -> None:
        self._path = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether the columns, or the keys of a first line, are those of a TrainingMetrics table."""
        try:
            if not self._path.is_dir():
                return _form_of(self._path) is not None
            judged = heapq.nsmallest(_FILES_JUDGED, self._listed())
            return any(_form_of(path) is _parquet for path in judged)
        except MissingDependencyError:
            return True  # which reading it says again
        except (OSError, ValueError):  # a name that is too long, or not a name at all
            return False

    def runs(self) -> list[str]:
        """Name each file, which may hold several runs.

        Raises:
            SourceError: There is none, or more than 100,000.
        """
        return [str(path) for path in self._found()]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read one event for each row, in the order of the files and their rows.

        Args:
            repeats: Makes no difference: what the source holds twice is always given twice.

        Raises:
            SourceError: A file cannot be read, or is no such table, or holds more than 100,000 names;
                or there are more than 100,000 files.
            MissingDependencyError: pyarrow or zstandard, which such a file needs, is not installed.
        """
        del repeats  # all that is in it is given anyway
        self.problems.clear()
        runs = Runs(str(self._path))
        is_empty = True
        for path in self._found():
            try:
                for event in self._read(path, runs):
                    is_empty = False
                    yield event
            except SourceError as error:
                self._complain(error)
        if is_empty:
            reason = "; ".join(["no row of it has a step, a phase and a run_id", *self.problems])
            raise SourceError(str(self._path), reason, _REMEDY)

    def files(self, into: Path) -> list[Path]:
        """Give the files themselves."""
        del into
        return self._found()

    def _found(self) -> list[Path]:
        try:
            paths = self._parts() if self._path.is_dir() else [self._path]
        except OSError as error:
            raise SourceError(str(self._path), str(error), "check its permissions") from error
        if not paths:
            raise SourceError(str(self._path), f"no {_SUFFIX} file is in it", "check the path")
        limits.opened(paths[0]).close()
        return paths

    def _parts(self) -> list[Path]:
        parts = list(islice(self._listed(), _MOST_FILES + 1))
        if len(parts) > _MOST_FILES:
            reason = f"more than {_MOST_FILES:,} {_SUFFIX} files are in it"
            raise SourceError(str(self._path), reason, "spread them over several folders")
        return sorted(parts)

    def _listed(self) -> Iterator[Path]:
        """The files of a data set, in any order."""
        files = self._path.iterdir()
        return (p for p in files if p.name.endswith(_SUFFIX) and not p.name.startswith(_HIDDEN))

    def _read(self, path: Path, runs: Runs) -> Iterator[Event]:
        limits.opened(path).close()
        skips = Skips(str(path))
        form = _parquet if is_parquet(path) else _form_of(path)
        if form is None:
            raise SourceError(str(path), "its first lines are no rows of a TrainingMetrics table", _REMEDY)
        for row in form(path, self.problems, skips):
            yield from runs.events(row, skips)
        self.problems += skips.sentences()

    def _complain(self, error: SourceError) -> None:
        """Raise for the file that was asked for; one of many in a folder stops no other."""
        if not self._path.is_dir():
            raise error
        self.problems.append(str(error))


class _Form(Protocol):
    """A way to read the rows of a file."""

    def __call__(self, path: Path, problems: list[str], skips: Skips) -> Iterator[Row]: ...


def _form_of(path: Path) -> _Form | None:
    """How a file is read that holds such a table; None for one that holds none, or cannot be read.

    Raises:
        MissingDependencyError: It is a Parquet file, and pyarrow is not installed.
    """
    if is_parquet(path):
        return _parquet if DTYPES.keys() <= set(parquet_names(path)) else None
    if delimiter_of(path, DTYPES):
        return _csv
    lines = limits.head(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = json_rows(enumerate(lines[:_LINES_JUDGED], 1), Skips(""))
    if any(_is_ours(row) for _, row in rows):
        return _jsonl
    if limits.is_zstd(path) and path.name.endswith(_ENDINGS):  # what cannot be unpacked here
        return _csv if plain_name(path).endswith("csv") else _jsonl
    return None


def _is_ours(row: dict[str, Any]) -> bool:
    is_told = isinstance(row.get("step"), int) and isinstance(row.get("run_id"), str)
    return is_told and row.get("phase") in _PHASES and number(row.get("wall_time")) is not None


def _csv(path: Path, problems: list[str], skips: Skips) -> Iterator[Row]:
    table = csv_table(path, problems, skips, delimiter_of(path, DTYPES))
    _check(path, table.header)
    is_unnamed = not table.header[0].strip()  # as pandas and R write the numbers of rows
    cells = Cells(table.header, skips, [0] if is_unnamed else [])
    return (cells.row(place, row) for place, row in table.rows)


def _jsonl(path: Path, problems: list[str], skips: Skips) -> Iterator[Row]:
    return (json_row(place, told, skips) for place, told in json_rows(limits.lines(path, problems), skips))


def _parquet(path: Path, problems: list[str], skips: Skips) -> Iterator[Row]:
    # Not by pandas, which takes NaN for missing.
    table = parquet_table(path, _texts, problems)
    _check(path, table.header)
    index = _index_of(path)
    cells = Cells(table.header, skips, [place for place, name in enumerate(table.header) if name in index])
    return (cells.row(place, row) for place, row in table.rows)


def _index_of(path: Path) -> set[str]:
    """The columns in which pandas has kept an index without a name; a metric may be called like them."""
    told = importlib.import_module("pyarrow.parquet").read_schema(path).metadata or {}
    try:
        columns = msgspec.json.decode(told.get(b"pandas", b"{}"), type=_ToldByPandas).index_columns
    except (msgspec.DecodeError, ValueError):  # somebody's own words under pandas' key
        return set()
    return {name for name in columns if isinstance(name, str) and _INDEX.fullmatch(name)}


class _ToldByPandas(msgspec.Struct):
    """What pandas has written beside a table: names, and descriptions of what is no column."""

    index_columns: list[Any] = []


def _texts(header: list[str]) -> set[int]:
    return {place for place, name in enumerate(header) if name in TEXTS}


def _check(path: Path, header: list[str]) -> None:
    missing = [name for name in DTYPES if name not in header]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if missing or twice:
        faults = [f"it lacks {', '.join(missing)}"] if missing else []
        faults += [f"columns are there twice: {', '.join(name[:80] for name in twice[:5])}"] if twice else []
        raise SourceError(str(path), "; ".join(faults), _REMEDY)


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = MetricsTableAdapter
