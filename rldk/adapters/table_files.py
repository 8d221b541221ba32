"""How is a CSV, TSV or Parquet file read row by row, whatever its columns and cells are."""

from __future__ import annotations

import csv
import importlib
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.adapters import limits
from rldk.errors import MissingDependencyError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rldk.adapters.raw import Skips

MISSING: Final = frozenset({None, "", "null", "None", "NA", "N/A", "<NA>"})
"""Cells in which nothing was measured. `NaN` is none of them: there the measurement broke."""

_DELIMITERS: Final = (",", "\t", ";")
_PARQUET: Final = b"PAR1"
_LONGEST_FOOTER: Final = 64 * 2**20
_LARGEST_CHUNK: Final = 256 * 2**20
_MOST_ROWS: Final = 500_000_000
_ROWS_AT_ONCE: Final = 4096


class Table(NamedTuple):
    """A table that is open for reading, once.

    Attributes:
        header: Names of the columns.
        rows: The line of each row, and its cells: text, numbers, dates or None.
    """

    header: list[str]
    rows: Iterator[tuple[int, list[Any]]]


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do; False where it cannot be read."""
    return limits.head(path, len(_PARQUET)) == _PARQUET


def header_of(path: Path) -> list[str]:
    """Read the header of a text file, as far as it is short; empty where it seems to have none."""
    first, newline, _ = limits.head(path).partition(b"\n")
    if b"\0" in first or first.lstrip()[:1] in {b"{", b"[", b""} or not newline:
        return []
    text = first.decode("utf-8-sig", "replace")
    return _cut(text, _delimiter(text))


def csv_table(path: Path, problems: list[str], skips: Skips) -> Table:
    """Open a CSV or TSV file, plain or compressed. Memory is bounded by a row.

    Raises:
        SourceError: It cannot be read, or has more than 100,000 columns.
        MissingDependencyError: It is compressed by zstd, and zstandard is not installed.
    """
    lines = limits.lines(path, problems)
    first = next((line for _, line in lines if line.strip()), b"")
    text = first.decode("utf-8-sig", "replace")
    delimiter = _delimiter(text)
    if not first or text.count(delimiter) >= limits.MOST_NAMES:
        what = f"it has more than {limits.MOST_NAMES:,} columns" if first else "it has no header"
        raise SourceError(str(path), "; ".join([what, *problems]), "give a table with one row for each step")
    header = _cut(text, delimiter)
    return Table(header, _csv_rows(lines, delimiter, len(header), skips))


def parquet_table(path: Path, wanted: Callable[[list[str]], set[int]], problems: list[str]) -> Table:
    """Open a Parquet file. Memory is bounded by some thousand rows of the columns that are read.

    Args:
        path: The file.
        wanted: Which columns of a header are of use even where they hold text. Other columns are read
            where they hold numbers or dates.
        problems: Is told of the columns that are passed over.

    Raises:
        SourceError: It cannot be read, has more than 100,000 columns, or a column of 256 MiB a piece.
        MissingDependencyError: pyarrow is not installed.
    """
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError(f"reading {path}", "pyarrow", "parquet") from error
    _check_footer(path)
    try:
        file = parquet.ParquetFile(path)
        header = [str(name) for name in file.schema_arrow.names]
        _check_size(path, file)
        kept = _columns(
            arrow, file, wanted(header), f"{path}: columns are not numbers and were skipped", problems
        )
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(str(path), f"it is no Parquet file: {error}", "write it again") from error
    return Table([header[i] for i in kept], _parquet_rows(path, arrow, file, [header[i] for i in kept]))


def _delimiter(text: str) -> str:
    return max(_DELIMITERS, key=text.count)


def _cut(text: str, delimiter: str) -> list[str]:
    if text.count(delimiter) >= limits.MOST_NAMES:
        return []
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def _csv_rows(
    lines: Iterator[tuple[int, bytes]], delimiter: str, width: int, skips: Skips
) -> Iterator[tuple[int, list[Any]]]:
    texts = _Texts(lines, delimiter, width, skips)
    reader = csv.reader(texts, delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # a cell that is longer than csv.field_size_limit
            skips.place("rows are damaged and", f"line {texts.number}", str(error))
            continue
        if len(row) == width:
            yield texts.number, row
        elif row:
            skips.place("rows have more or fewer cells than the header and", f"line {texts.number}")


class _Texts:
    """The lines as csv wants them, without those of far more cells than there are columns."""

    def __init__(self, lines: Iterator[tuple[int, bytes]], delimiter: str, width: int, skips: Skips) -> None:
        self.number = 0
        self._lines = lines
        self._delimiter = delimiter.encode()
        self._most = 2 * width + limits.MOST_NAMES
        self._skips = skips

    def __iter__(self) -> _Texts:
        return self

    def __next__(self) -> str:
        for number, line in self._lines:
            self.number = number
            if line.count(self._delimiter) <= self._most:
                return line.decode("utf-8", "replace")
            self._skips.place("rows have more or fewer cells than the header and", f"line {self.number}")
        raise StopIteration


def _check_footer(path: Path) -> None:
    """Refuse a description that is larger than any table of 100,000 columns has."""
    with limits.opened(path) as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _PARQUET or length > size - 8:
        raise SourceError(str(path), "it is cut off, or no Parquet file", "copy or write it again")
    if length > _LONGEST_FOOTER:
        reason = f"the description of its columns takes {length >> 20} MiB"
        raise SourceError(str(path), reason, "give a table with one column for each metric")


def _check_size(path: Path, file: Any) -> None:  # noqa: ANN401  # pyarrow is not typed
    columns, rows = file.metadata.num_columns, file.metadata.num_rows
    if columns > limits.MOST_NAMES or rows > _MOST_ROWS:
        reason = f"it has {columns:,} columns and {rows:,} rows"
        remedy = f"give at most {limits.MOST_NAMES:,} columns and {_MOST_ROWS:,} rows"
        raise SourceError(str(path), reason, remedy)


def _columns(arrow: Any, file: Any, texts: set[int], what: str, problems: list[str]) -> list[int]:  # noqa: ANN401  # the same
    """Which columns are read: numbers and dates, and what is wanted as text; none too large."""
    types = arrow.types
    kept: list[int] = []
    passed: list[int] = []
    sizes = _chunk_sizes(file.metadata)
    for place, column in enumerate(file.schema_arrow):
        is_text = types.is_string(column.type) or types.is_large_string(column.type)
        is_text |= types.is_dictionary(column.type) and types.is_string(column.type.value_type)
        is_number = types.is_primitive(column.type) or types.is_decimal(column.type)
        is_small = sizes.get(column.name, 0) <= _LARGEST_CHUNK
        is_read = is_small and (is_number or (is_text and place in texts))
        (kept if is_read else passed).append(place)
    if passed:
        names = ", ".join(file.schema_arrow.names[i][:80] for i in passed[:5])
        problems.append(f"{what}: {names}{f' and {len(passed) - 5} more' if len(passed) > 5 else ''}")  # noqa: PLR2004  # as shown
    return kept


def _chunk_sizes(metadata: Any) -> dict[str, int]:  # noqa: ANN401  # the same
    """The largest piece of each column that must be unpacked at once, in bytes."""
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(place)
            size = max(chunk.total_uncompressed_size, chunk.total_compressed_size)
            sizes[chunk.path_in_schema] = max(size, sizes.get(chunk.path_in_schema, 0))
    return sizes


def _parquet_rows(path: Path, arrow: Any, file: Any, names: list[str]) -> Iterator[tuple[int, list[Any]]]:  # noqa: ANN401  # the same
    number = 0
    try:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
            columns = [batch.column(name).to_pylist() for name in names]
            for cells in zip(*columns, strict=True) if columns else repeat((), batch.num_rows):
                number += 1
                yield number, list(cells)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(str(path), f"damaged after row {number}: {error}", "write it again") from error
