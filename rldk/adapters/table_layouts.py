"""What do the columns of a table mean: which tool wrote it, and so who reads its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rldk.adapters.raw import ROW_COUNT, STEPS, Skips
from rldk.adapters.table_cells import Columns, Runs
from rldk.adapters.table_charts import WandbChart, chart
from rldk.adapters.table_rows import METRICS, TENSORBOARD, VALUES, Long, Wide
from rldk.adapters.table_runs import RunTable, run_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from rldk.event import Event


class Layout(Protocol):
    """A reading of one table.

    Attributes:
        texts: The columns that are of use though they hold text.
        notes: What is to be known of such a table, a sentence each; complete when the rows are read.
    """

    texts: set[int]
    notes: list[str]

    def events(self, rows: Iterable[tuple[int, list[Any]]]) -> Iterator[Event]:
        """Give the events of the rows, those of several runs as they come."""


def layout_of(header: Sequence[str], path: Path, skips: Skips) -> Layout | None:
    """Find out what a table is by its header; None where no column says the step."""
    columns = Columns(header)
    if (table := run_table(columns)) is not None:
        return RunTable(table, columns, Runs(path), skips)
    if (pairs := chart(header)) is not None:
        return WandbChart(header[0], pairs, Runs(path), skips)
    if columns.first((*STEPS, ROW_COUNT)) is None:
        return None
    value = columns.first(VALUES)
    if value is not None and (columns.first(METRICS) is not None or columns.names.keys() >= TENSORBOARD):
        return Long(columns, value, Runs(path), skips)
    return Wide(columns, Runs(path), skips)
