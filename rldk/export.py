"""How is a TrainingMetrics table written to a file: CSV, JSONL or Parquet, NaN and missing kept apart."""

from __future__ import annotations

import csv
import importlib
import io
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
import pandas as pd

from rldk import files
from rldk.errors import MissingDependencyError, SettingError, TargetError
from rldk.event import non_finite_name
from rldk.schema import DTYPES, METRIC_DTYPE, SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

Form = Literal["csv", "parquet", "jsonl"]

_ENDINGS: Final[dict[str, Form]] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_ROWS_AT_ONCE: Final = 10_000


def form_of(name: str) -> Form | None:
    """What a file's name says that it holds; None where it says nothing that can be written."""
    return next((form for ending, form in _ENDINGS.items() if name.lower().endswith(ending)), None)


def write(table: pd.DataFrame, path: Path, form: Form | None = None) -> None:
    """Write a table to a file, which holds the whole table or stays as it was.

    In CSV and JSONL an empty cell or an absent key was not measured, and NaN and the infinities have
    their names; in Parquet null was not measured, and NaN is a value. `df.attrs` is not written.

    Args:
        table: The table.
        path: The file; it is replaced.
        form: What to write; by default what the file's name says.

    Raises:
        SettingError: Neither says what to write.
        TargetError: The file cannot be written.
        MissingDependencyError: Parquet needs pyarrow, which is not installed.
    """
    form = form or form_of(path.name)
    if form is None:
        raise SettingError("--output", str(path), "a name ending in .csv, .parquet or .jsonl, or --format")
    with replacing(path) as new:
        if form == "parquet":
            arrow().parquet.write_table(as_arrow(table), new)
        else:
            with new.open("w", encoding="utf-8", errors="replace", newline="") as out:
                write_text(table, out, form)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside another, which takes its place at the end, or is removed."""
    try:
        with files.replacement(path) as new:
            yield new
    except OSError as error:
        raise TargetError(str(path), str(error), "choose a file that can be written") from error


def write_text(table: pd.DataFrame, out: TextIO, form: Form) -> None:
    """Write a table as text, some rows at a time."""
    names = [str(name) for name in table.columns]
    if form == "csv":
        out.write(_csv([names]))
    for start in range(0, len(table), _ROWS_AT_ONCE):
        cells = [_cells(column) for _, column in table.iloc[start : start + _ROWS_AT_ONCE].items()]
        rows = list(zip(*cells, strict=True))
        out.write(_csv(rows) if form == "csv" else _jsonl(names, rows))


def _cells(column: pd.Series[Any]) -> list[Any]:
    """A column's values; None for what is missing, and names for what is not finite."""
    is_nullable = pd.api.types.is_extension_array_dtype(column.dtype)
    # To pandas a NaN of NumPy's float64 is missing, and in `wall_time` it says that nobody knows.
    missing = column.isna().to_numpy() if is_nullable else np.zeros(len(column), dtype=bool)
    kind = {"f": "float64", "i": "int64"}.get(column.dtype.kind)
    values = column.to_numpy(kind, na_value=0) if kind and is_nullable else column.to_numpy()
    cells = values.astype(object)
    if kind == "float64":
        for place in np.flatnonzero(~np.isfinite(values)):
            cells[place] = non_finite_name(float(values[place]))
    cells[missing] = None
    return cells.tolist()


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    has_returns = any("\r" in cell for row in rows for cell in row if isinstance(cell, str))
    # Else Python 3.11 quotes no carriage return, which ends a line to every reader
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if has_returns else csv.QUOTE_MINIMAL
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=quoting).writerows(rows)
    return out.getvalue()


def _jsonl(names: list[str], rows: Sequence[Sequence[Any]]) -> str:
    told = ({n: value for n, value in zip(names, row, strict=True) if value is not None} for row in rows)
    return "".join(msgspec.json.encode(row).decode() + "\n" for row in told)


def arrow() -> Any:  # noqa: ANN401  # an optional module
    """Give pyarrow with its Parquet part.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependencyError("Parquet", "pyarrow", "parquet") from error
    return importlib.import_module("pyarrow")


def as_arrow(table: pd.DataFrame) -> Any:  # noqa: ANN401  # pyarrow.Table
    """Give a table as one of Arrow's, in which NaN is a value and null is missing."""
    return arrow().Table.from_pandas(table, preserve_index=False)


def from_arrow(table: Any) -> pd.DataFrame:  # noqa: ANN401  # the same
    """Undo `as_arrow`: pandas' own way back would take NaN for missing."""
    dtypes = {
        name: {**DTYPES, SEGMENT.name: SEGMENT.dtype}.get(name, METRIC_DTYPE) for name in table.column_names
    }
    columns = {name: _from_arrow(table.column(name), dtype) for name, dtype in dtypes.items()}
    return pd.DataFrame(columns, copy=False)


def _from_arrow(column: Any, dtype: str) -> Any:  # noqa: ANN401  # the same, and an array of any dtype
    if dtype == "string":
        return pd.array(column.to_pylist(), dtype=pd.StringDtype())
    missing = column.is_null().to_numpy()
    # pandas gives Arrow the NaN of `wall_time` as null, for its dtype knows no other
    values = column.fill_null(math.nan if dtype == "float64" else 0).to_numpy().astype(dtype.lower())
    if dtype == METRIC_DTYPE:
        return pd.arrays.FloatingArray(values, missing)
    return pd.arrays.IntegerArray(values, missing) if dtype == "Int64" else values
