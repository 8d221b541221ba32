"""`rldk ingest`: runs from wherever they are kept, as one table."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli.app import app, console, errors, fail, progress_bar
from rldk.errors import RLDKError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

_LAST_ROWS = 10
_SHOWN = ("run_id", "step", "phase", "reward_mean", "kl_mean", "entropy_mean", "grad_norm", "loss")


class Format(StrEnum):
    """How the table is written."""

    table = "table"
    csv = "csv"
    parquet = "parquet"
    jsonl = "jsonl"


@app.command()
def ingest(
    sources: Annotated[
        list[str], typer.Argument(help="Journals, W&B folders, MLflow runs, trainer states, CSVs, ...")
    ],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write the whole table here.")
    ] = None,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="By default what the output's name says.")
    ] = None,
    field_map: Annotated[
        list[str] | None,
        typer.Option(help="RAW=CANONICAL for a name that the catalog does not know, or a TOML or JSON file."),
    ] = None,
    attempts: Annotated[str, typer.Option(help="latest, or all: superseded steps too.")] = "latest",
    join: Annotated[bool, typer.Option(help="Count a run that resumed another one as that one.")] = False,
    adapter: Annotated[str | None, typer.Option(help="Read the sources with this adapter.")] = None,
) -> None:
    """Read runs into the TrainingMetrics table.

    Without an output: a first look at each run, and the last rows. Exit code 3 if nothing can be read.
    """
    from rldk.ingest import ingest_runs

    try:
        with _unsaid("rldk.ingest"), progress_bar() as bar:
            task = bar.add_task("reading", total=None)
            table = ingest_runs(
                sources,
                adapter_hint=adapter,
                attempts=_attempts(attempts),
                join=join,
                field_map=_field_map(field_map or []),
                watch=lambda run, number, total: bar.update(
                    task, description=escape(run[-50:]), completed=number, total=total
                ),
            )
        if output is None and output_format in {None, Format.table}:
            _show(table)
        else:
            _write(table, output, output_format or _format_of(output))
    except RLDKError as error:
        fail(error)


@contextmanager
def _unsaid(logger: str) -> Iterator[None]:
    """Have a logger leave out its warnings: they are shown below the table."""
    talker = logging.getLogger(logger)
    level = talker.level
    talker.setLevel(logging.ERROR)
    try:
        yield
    finally:
        talker.setLevel(level)


def _attempts(given: str) -> Any:  # noqa: ANN401  # ingest_runs says which it takes
    return given


def _field_map(given: list[str]) -> dict[str, str]:
    told: dict[str, str] = {}
    for each in given:
        raw, equals, canonical = each.partition("=")
        told |= {raw: canonical} if equals and raw and canonical else _read_map(Path(each))
    return told


def _read_map(path: Path) -> dict[str, str]:
    decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
    try:
        return decode(path.read_bytes(), type=dict[str, str])
    except (OSError, ValueError) as error:
        allowed = f"RAW=CANONICAL, or a TOML or JSON file of such pairs ({error})"
        raise SettingError("--field-map", str(path), allowed) from error


def _format_of(output: Path | None) -> Format:
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    known = {"csv": Format.csv, "parquet": Format.parquet, "jsonl": Format.jsonl, "ndjson": Format.jsonl}
    if suffix not in known:
        raise SettingError("--output", str(output), "a name ending in .csv, .parquet or .jsonl, or --format")
    return known[suffix]


def _write(table: pd.DataFrame, output: Path | None, form: Format) -> None:
    """Write the table; to standard output where no file is named."""
    if form is Format.parquet:
        if output is None:
            raise SettingError("--format", "parquet", "an --output file with it")
        _write_parquet(table, output)
        return
    text = _csv(table) if form is Format.csv else _jsonl(table)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise SettingError("--output", str(output), f"a file that can be written ({error})") from error


def _write_parquet(table: pd.DataFrame, output: Path) -> None:
    from rldk.errors import MissingDependencyError

    try:
        table.to_parquet(output)
    except ImportError as error:
        raise MissingDependencyError("writing Parquet", "pyarrow", "parquet") from error
    except OSError as error:
        raise SettingError("--output", str(output), f"a file that can be written ({error})") from error


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row's values by column, without those that are missing."""
    return [
        {str(name): value for name, value in row.items() if value is not None}
        for row in table.astype(object).where(~table.isna(), None).to_dict("records")
    ]


def _csv(table: pd.DataFrame) -> str:
    """Missing is an empty cell; NaN and the infinities have their names."""
    import csv
    import io

    from rldk.event import spell_non_finite

    out = io.StringIO()
    writer = csv.DictWriter(out, list(table.columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(spell_non_finite(row) for row in _rows(table))
    return out.getvalue()


def _jsonl(table: pd.DataFrame) -> str:
    from rldk.event import spell_non_finite

    return "".join(msgspec.json.encode(spell_non_finite(row)).decode() + "\n" for row in _rows(table))


def _show(table: pd.DataFrame) -> None:
    attrs = table.attrs
    console.print(
        f"read by {attrs['adapter']}: {len(table)} rows, {len(table.columns)} columns", markup=False
    )
    look = Table(title="Runs", title_justify="left")
    for heading in ("run", "trainer", "rows", "steps", "first step with a value that is not finite"):
        look.add_column(heading)
    for run_id, rows in table.groupby("run_id", sort=False):
        steps = f"{rows['step'].min()} to {rows['step'].max()}"
        trainer = attrs["trainers"].get(run_id, "unknown")
        look.add_row(escape(str(run_id)), trainer, str(len(rows)), steps, _first_bad(rows))
    console.print(look)
    shown = [name for name in _SHOWN if table[name].notna().any()]
    last = Table(title="The last rows", title_justify="left")
    for name in shown:
        last.add_column(name, justify="right")
    for row in table.tail(_LAST_ROWS)[shown].itertuples(index=False):
        last.add_row(*(_cell(value) for value in row))
    console.print(last)
    for problem in attrs["problems"]:
        errors.print(f"note: {escape(problem)}", soft_wrap=True)


def _first_bad(rows: pd.DataFrame) -> str:
    import numpy as np

    floats = rows.select_dtypes("Float64")
    bad = [~np.isfinite(floats[name].to_numpy("float64", na_value=0.0)) for name in floats]
    found = np.logical_or.reduce(bad) if bad else np.zeros(len(rows), dtype=bool)
    return str(rows["step"].to_numpy()[found][0]) if found.any() else "none"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if str(value) == "<NA>" else escape(str(value))
