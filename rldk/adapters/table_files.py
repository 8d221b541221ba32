"""How is a CSV, TSV or Parquet file read row by row, whatever its columns and cells are."""

from __future__ import annotations

import csv
import importlib
import io
from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from rldk.adapters import limits
from rldk.errors import MissingDependencyError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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


def csv_table(path: Path, problems: list[str], skips: Skips, delimiter: str = "") -> Table:
    """Open a CSV or TSV file, plain or compressed. Memory is bounded by a row.

    Args:
        path: The file.
        problems: Is told of lines that are too long, and of a file that is damaged.
        skips: Is told of the rows that are left out.
        delimiter: What is between two cells; by default what the first line has most of.

    Raises:
        SourceError: It cannot be read, or has more than 100,000 columns.
        MissingDependencyError: It is compressed by zstd, and zstandard is not installed.
    """
    lines = limits.lines(path, problems)
    number, first = next(((number, line) for number, line in lines if line.strip()), (0, b""))
    text = first.decode("utf-8-sig", "replace")
    delimiter = delimiter or _delimiter(text)
    if not first or text.count(delimiter) >= limits.MOST_NAMES:
        what = f"it has more than {limits.MOST_NAMES:,} columns" if first else "it has no header"
        raise SourceError(str(path), "; ".join([what, *problems]), "give a table with one row for each step")
    texts = _Texts(chain([(number, text.encode())], lines), delimiter, skips)
    reader = csv.reader(texts, delimiter=delimiter)
    try:
        header = next(reader)  # a name may go over several lines
    except (StopIteration, csv.Error) as error:
        raise SourceError(str(path), f"its header is damaged: {error}", "write it again") from error
    texts.width = len(header)
    return Table(header, _csv_rows(texts, reader, skips))


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
    arrow, parquet = _arrow(path)
    _check_footer(path)
    try:
        file = parquet.ParquetFile(path)
        header = [str(name) for name in file.schema_arrow.names]
        _check_size(path, file)
        _check_names(path, header)
        kept = _columns(
            arrow, file, wanted(header), f"{path}: columns are not numbers and were skipped", problems
        )
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(str(path), f"it is no Parquet file: {error}", "write it again") from error
    names = [header[i] for i in kept]
    rows = _parquet_rows(path, arrow, file, names)
    counted = _counted_index(file, header)
    if counted is None:
        return Table(names, rows)
    return Table([*names, counted.name], ((number, [*row, counted.at(number)]) for number, row in rows))


class _CountedIndex(msgspec.Struct):
    """An index that pandas does not write as a column, for its values follow from their places."""

    kind: Literal["range"]
    name: str
    start: int = 0
    step: int = 1

    def at(self, number: int) -> int:
        """The value in a row, of which the first is 1."""
        return self.start + (number - 1) * self.step


class _ToldByPandas(msgspec.Struct):
    index_columns: list[Any] = []


def _counted_index(file: Any, header: Sequence[str]) -> _CountedIndex | None:  # noqa: ANN401  # pyarrow is not typed
    """Find an index with a name that no column has, as `set_index("step")` makes it of 0, 1, 2 and so on."""
    told = (file.schema_arrow.metadata or {}).get(b"pandas", b"{}")
    try:
        columns = msgspec.json.decode(told, type=_ToldByPandas).index_columns
        index = msgspec.convert(columns[0], _CountedIndex) if len(columns) == 1 else None
    except msgspec.MsgspecError:  # no index, one that is a column, or what somebody else wrote there
        return None
    return index if index is not None and index.name not in header else None


def delimiter_of(path: Path, names: Iterable[str]) -> str:
    """Find the delimiter by which the header of a text file has all of these names; empty for none."""
    text = limits.head(path).decode("utf-8-sig", "replace")
    wanted = set(names)
    return next((d for d in _DELIMITERS if wanted <= set(_first_row(text, d))), "")


def parquet_names(path: Path) -> list[str]:
    """Give the names of a Parquet file's columns; none where it is none, or is damaged.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    if not is_parquet(path):
        return []
    arrow, parquet = _arrow(path)
    try:
        _check_footer(path)
        return [str(name) for name in parquet.read_schema(path).names]
    except (arrow.ArrowException, OSError, ValueError, SourceError):
        return []


def _arrow(path: Path) -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError(f"reading {path}", "pyarrow", "parquet") from error


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text.lstrip(), newline="\n"), delimiter=delimiter), [])
    except csv.Error:
        return []


def _delimiter(text: str) -> str:
    return max(_DELIMITERS, key=text.count)


def _cut(text: str, delimiter: str) -> list[str]:
    if text.count(delimiter) >= limits.MOST_NAMES:
        return []
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def _csv_rows(texts: _Texts, reader: Iterator[list[str]], skips: Skips) -> Iterator[tuple[int, list[Any]]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # a cell that is longer than csv.field_size_limit
            skips.place("rows are damaged and", f"line {texts.number}", str(error))
            continue
        if len(row) == texts.width:
            yield texts.number, row
        elif row:
            skips.place("rows have more or fewer cells than the header and", f"line {texts.number}")


class _Texts:
    """The lines as csv wants them, without those of far more cells than there are columns.

    Attributes:
        number: The last line that was given.
        width: How many columns there are; 0 where it is not known yet.
    """

    def __init__(self, lines: Iterator[tuple[int, bytes]], delimiter: str, skips: Skips) -> None:
        self.number = 0
        self.width = 0
        self._lines = lines
        self._delimiter = delimiter.encode()
        self._skips = skips

    def __iter__(self) -> _Texts:
        return self

    def __next__(self) -> str:
        most = 2 * self.width + limits.MOST_NAMES
        for number, line in self._lines:
            self.number = number
            if line.count(self._delimiter) <= most:
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


def _check_names(path: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:  # Arrow cannot tell such columns apart
        reason = f"several of its columns have one name: {', '.join(name[:80] for name in twice[:5])}"
        raise SourceError(str(path), reason, "give each column a name of its own")


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
