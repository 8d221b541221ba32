"""What is the TrainingMetrics table: its columns, their types, units and meaning, and whether one is it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

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

DTYPES: Final = {column.name: column.dtype for column in COLUMNS}
UNITS: Final = {column.name: column.unit for column in (*COLUMNS, SEGMENT) if column.unit}


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """Make sure that a table is a TrainingMetrics table, such as one that was saved, cut or put together.

    Returns:
        The table itself.

    Raises:
        SchemaError: It is none; the error names every fault.
    """
    faults = [*_faults_of_columns(table)] or [*_faults_of_rows(table)]
    if faults:
        raise SchemaError(faults)
    return table


def conformed(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table that has lost its dtypes on the way, as in a CSV, the declared ones; columns are added.

    Raises:
        SchemaError: A column holds what its type cannot.
    """
    dtypes = {**DTYPES, **({SEGMENT.name: SEGMENT.dtype} if SEGMENT.name in table.columns else {})}
    names = [*dtypes, *sorted(str(name) for name in table.columns if name not in dtypes)]
    columns, faults = {}, []
    for name in names:
        dtype = dtypes.get(name, METRIC_DTYPE)
        given = table[name] if name in table.columns else pd.Series(pd.NA, index=table.index, dtype="object")
        try:
            columns[name] = given.astype(dtype)  # type: ignore[call-overload]  # any dtype of the schema
        except (TypeError, ValueError) as error:
            faults.append(f"column {name} cannot be {dtype}: {error}")
    if faults:
        raise SchemaError(faults)
    return pd.DataFrame(columns)


def _faults_of_columns(table: pd.DataFrame) -> Iterator[str]:
    names = [str(name) for name in table.columns]
    missing = [name for name in DTYPES if name not in names]
    if missing:
        yield f"columns are missing: {', '.join(missing)}"
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        yield f"columns are there twice: {', '.join(repeated)}"
        return
    expected = DTYPES | {SEGMENT.name: SEGMENT.dtype}
    for name, dtype in zip(names, table.dtypes, strict=True):
        declared = expected.get(name, METRIC_DTYPE)
        if str(dtype) != declared:
            yield f"column {name} is {dtype}, not {declared}"


def _faults_of_rows(table: pd.DataFrame) -> Iterator[str]:
    for name in ("run_id", "phase"):
        if table[name].isna().any():
            yield f"{name} is missing in {int(table[name].isna().sum())} rows"
    key = ["run_id", "step", "phase", *([SEGMENT.name] if SEGMENT.name in table.columns else [])]
    repeated = table.duplicated(key)
    if repeated.any():
        first = table[key][repeated].iloc[0].tolist()
        yield f"{int(repeated.sum())} rows repeat another one's {', '.join(key)}; the first: {first}"
