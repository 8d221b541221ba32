"""How does a table of any tool give its events: CSV, TSV and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rldk.adapters import limits
from rldk.adapters.raw import Skips
from rldk.adapters.table_files import csv_table, header_of, is_parquet, parquet_table
from rldk.adapters.table_layouts import Layout, layout_of
from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rldk.adapters.table_files import Table
    from rldk.event import Event

_SUFFIXES: Final = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst")
_COLUMNS_SHOWN: Final = 8


class TableAdapter:
    """Reads a table: a CSV or TSV file, plain or compressed, or a Parquet file.

    Known by their headers are the charts and run tables that W&B's and MLflow's pages export,
    `run.history()`, `search_runs()`, TensorBoard's downloads, and tables with one value a row. Any
    other table has a row for each step, whose columns are found as those of `FlatJsonlAdapter` are.
    An empty cell is a missing value; `NaN` is a value that broke.

    Args:
        source: Path of the file.

    Attributes:
        problems: What was skipped, and what such an export leaves out, a sentence each.
    """

    name: ClassVar[str] = "table"

    def __init__(self, source: str | Path) -> None:
        self._path = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether it is a Parquet file, or begins with the names of columns of which one is a step."""
        if is_parquet(self._path):
            return True
        header = header_of(self._path)
        if len(header) > 1:
            return layout_of(header, self._path, Skips("")) is not None
        # A header that is too long to judge, or what cannot be unpacked here, is called by its name.
        head = limits.head(self._path)
        is_long = head != b"" and b"\n" not in head and b"\0" not in head
        return (is_long or limits.is_zstd(self._path)) and self._path.name.endswith(_SUFFIXES)

    def runs(self) -> list[str]:
        """Name the file, which may hold several runs.

        Raises:
            SourceError: There is no such file.
        """
        limits.opened(self._path).close()
        return [str(self._path)]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read one event for each row, or for each run of a row, in the order of the file.

        Args:
            repeats: Makes no difference: what the source holds twice is always given twice.

        Raises:
            SourceError: The file cannot be read, has no column with a step, or no number.
            MissingDependencyError: pyarrow or zstandard, which such a file needs, is not installed.
        """
        del repeats  # all that is in it is given anyway
        self.problems.clear()
        skips = Skips(str(self._path))
        table = self._table(skips)
        layout = layout_of(table.header, self._path, skips)
        if layout is None:
            names = ", ".join(name[:80] for name in table.header[:_COLUMNS_SHOWN])
            reason = f"none of its {len(table.header)} columns is a step ({names})"
            raise SourceError(str(self._path), reason, "rename the one that is to 'step'")
        is_empty = True
        for event in layout.events(table.rows):
            is_empty = False
            yield event
        self.problems += [*(f"{self._path}: {note}" for note in layout.notes), *skips.sentences()]
        if is_empty:
            reason = "; ".join(["no row of it has a step and a number", *self.problems])
            raise SourceError(str(self._path), reason, "give a table with one row for each step")

    def files(self, into: Path) -> list[Path]:
        """Give the file itself."""
        del into
        return [self._path]

    def _table(self, skips: Skips) -> Table:
        limits.opened(self._path).close()
        if not is_parquet(self._path):
            return csv_table(self._path, self.problems, skips)
        return parquet_table(self._path, lambda header: self._texts(header, skips), self.problems)

    def _texts(self, header: list[str], skips: Skips) -> set[int]:
        layout: Layout | None = layout_of(header, self._path, skips)
        return set() if layout is None else layout.texts


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = TableAdapter
