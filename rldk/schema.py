"""What is the TrainingMetrics table: its columns, their types, units and meaning, and whether one is it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from rldk.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Column(NamedTuple):
    """One of the columns that every table has.

    Attributes:
        name: Its name.
        dtype: Its pandas dtype. In `Float64` and `Int64` a value that nobody measured is `pd.NA`.
        unit: Its unit; empty where there is none, and for a metric.
        meaning: What it holds; empty for a metric, of which the catalog tells.
    """

    name: str
    dtype: str
    unit: str
    meaning: str


METRIC_DTYPE: Final = "Float64"
LEADING_METRICS: Final = (
    "reward_mean",
    "reward_std",
    "kl_mean",
    "entropy_mean",
    "clip_frac",
    "grad_norm",
    "lr",
    "loss",
)
"""The metrics that every table has; each other one follows by name."""

COLUMNS: Final = (
    Column("step", "int64", "optimizer steps", "Optimizer steps done (`global_step`)."),
    Column("phase", "string", "", "`train` or `eval`."),
    *(Column(name, METRIC_DTYPE, "", "") for name in LEADING_METRICS),
    Column("tokens_in", "Int64", "tokens", "Tokens that the step was given."),
    Column("tokens_out", "Int64", "tokens", "Tokens that the step generated."),
    Column("wall_time", "float64", "s", "Seconds since the run began; NaN where nobody knows."),
    Column("seed", "Int64", "", "Seed of the run."),
    Column("run_id", "string", "", "The run."),
    Column("git_sha", "string", "", "Commit of the training's code."),
)
"""The first columns of the table; every other metric follows as Float64, by name."""

SEGMENT: Final = Column("segment", "Int64", "", "Which start of the training wrote the row, from 0.")
"""The column behind them where all attempts were asked for."""

ASIDE: Final = "metric/"
"""What stands before a metric that is called like another column, or as if this stood before it already."""

DTYPES: Final = {column.name: column.dtype for column in COLUMNS}
RESERVED: Final = frozenset(DTYPES) - frozenset(LEADING_METRICS) | {SEGMENT.name}
UNITS: Final = {column.name: column.unit for column in (*COLUMNS, SEGMENT) if column.unit}


def column_of(metric: str) -> str:
    """Name of a metric's column: itself, but moved aside where another column is, or would be, called so."""
    return f"{ASIDE}{metric}" if _own_part(metric) in RESERVED else metric


def metric_of(column: str) -> str:
    """Name of the metric that a column holds: the inverse of `column_of`."""
    is_aside = column.startswith(ASIDE) and _own_part(column) in RESERVED
    return column.removeprefix(ASIDE) if is_aside else column


def _own_part(name: str) -> str:
    while name.startswith(ASIDE):
        name = name.removeprefix(ASIDE)
    return name


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """Make sure that a table is a TrainingMetrics table, such as one that was saved, cut or put together.

    Returns:
        The table itself.

    Raises:
        SchemaError: It is none; the error names every fault.
    """
    faults = [*_faults_of_columns(table), *_faults_of_rows(table)]
    if faults:
        raise SchemaError(faults)
    return table


def conformed(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table that has lost its dtypes on the way, as in a CSV, the declared ones; columns are added.

    In a column of text an empty cell is missing, and `NaN` a value. A NaN in a column of pandas' own
    `float64` is taken for missing, for there the two cannot be told apart any more.

    Returns:
        A new table, with the fixed columns first and the others by name; its index and attrs stay.

    Raises:
        SchemaError: A column holds what its type cannot, or is there twice.
    """
    given = {str(name): table.iloc[:, place] for place, name in enumerate(table.columns)}
    faults = _repeated(table)
    dtypes = {**DTYPES, **({SEGMENT.name: SEGMENT.dtype} if SEGMENT.name in given else {})}
    columns = {}
    for name in [*dtypes, *sorted(given.keys() - dtypes.keys())]:
        dtype = dtypes.get(name, METRIC_DTYPE)
        column = given.get(name, pd.Series(None, index=table.index, dtype="object"))
        try:
            columns[name] = _as(column, dtype).array
        except (TypeError, ValueError, OverflowError) as error:
            faults.append(f"column {name} cannot be {dtype}: {error}")
    if faults:
        raise SchemaError(faults)
    told = pd.DataFrame(columns, index=table.index, copy=False)
    told.attrs = dict(table.attrs)
    return told


def _as(column: pd.Series[Any], dtype: str) -> pd.Series[Any]:
    """Give a column another dtype, without loss."""
    is_text = column.dtype == object or isinstance(column.dtype, pd.StringDtype)
    if is_text:
        column = column.where(column.notna() & (column != ""), None).astype(object)
    if dtype == "string":
        return column.astype("string")
    if is_text:
        is_whole = dtype.lower() == "int64"
        missing = column.isna().to_numpy()
        cells = [0 if is_missing else cell for cell, is_missing in zip(column, missing, strict=True)]
        read = _whole if is_whole else _number
        values = np.array([read(cell) for cell in cells], dtype=dtype.lower())
        maker = pd.arrays.IntegerArray if is_whole else pd.arrays.FloatingArray
        column = pd.Series(maker(values, missing), index=column.index)
    if dtype == "int64":
        return column.astype("Int64").astype("int64")  # the first refuses fractions, the second holes
    if dtype == "float64":
        return pd.Series(column.to_numpy("float64", na_value=np.nan), index=column.index)
    return column.astype(dtype)  # type: ignore[call-overload,no-any-return]  # any dtype


def _number(cell: Any) -> float:  # noqa: ANN401  # any cell
    """Read a number.

    Raises:
        TypeError: It is no number.
        ValueError: It is none, also where Python would take its underscores for grouping.
    """
    if isinstance(cell, str) and "_" in cell:
        raise ValueError(f"could not convert string to float: {cell!r}")
    return float(cell)


def _whole(cell: Any) -> int:  # noqa: ANN401  # any cell
    """Read a whole number, exactly: one of 64 bits does not fit into a float.

    Raises:
        TypeError: It is no number.
        ValueError: It has a fraction, or is none.
    """
    value = _number(cell)
    try:
        if isinstance(cell, int | str):
            return int(cell)
    except ValueError:
        pass  # 42.0, as pandas writes whole numbers beside holes
    if not value.is_integer():
        raise ValueError(f"{cell} is no whole number")
    return int(value)


def _faults_of_columns(table: pd.DataFrame) -> Iterator[str]:
    names = [str(name) for name in table.columns]
    missing = [name for name in DTYPES if name not in names]
    if missing:
        yield f"columns are missing: {', '.join(missing)}"
    yield from _repeated(table)
    expected = DTYPES | {SEGMENT.name: SEGMENT.dtype}
    for name, dtype in zip(names, table.dtypes, strict=True):
        declared = expected.get(name, METRIC_DTYPE)
        if str(dtype) != declared:
            yield f"column {name} is {dtype}, not {declared}"


def _repeated(table: pd.DataFrame) -> list[str]:
    counts = Counter(str(name) for name in table.columns)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    return [f"columns are there twice: {', '.join(repeated)}"] if repeated else []


def _faults_of_rows(table: pd.DataFrame) -> Iterator[str]:
    counts = Counter(table.columns)
    key = ["run_id", "step", "phase", *([SEGMENT.name] if counts[SEGMENT.name] else [])]
    if any(counts[name] != 1 for name in key):  # of which the faults of columns tell
        return
    for name in ("run_id", "phase"):
        if table[name].isna().any():
            yield f"{name} is missing in {int(table[name].isna().sum())} rows"
    repeated = table.duplicated(key)
    if repeated.any():
        first = ", ".join(str(table[name][repeated.to_numpy()].iloc[0]) for name in key)
        yield f"{int(repeated.sum())} rows repeat another one's {', '.join(key)}; the first: {first}"
