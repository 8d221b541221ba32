"""`rldk ingest`: runs from wherever they are kept, as one table."""

from __future__ import annotations

import logging
import socket
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from rldk.cli import options
from rldk.cli.app import app, console, notes, reading_bar
from rldk.cli.options import Adapter, FieldMap, Json, Runs, Sources
from rldk.cli.output import write_document
from rldk.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from rldk.dataset import Done
    from rldk.export import Form

_LAST_ROWS = 10
_NAMES_SHOWN = 20
_SHOWN = ("run_id", "step", "phase", "reward_mean", "kl_mean", "entropy_mean", "grad_norm", "loss")
_TALKERS = ("rldk.reading", "rldk.distributed")


class Format(StrEnum):
    """How the table is written."""

    table = "table"
    csv = "csv"
    parquet = "parquet"
    jsonl = "jsonl"


@app.command()
def ingest(
    sources: Sources,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the whole table: a file .csv, .parquet or .jsonl; or a folder, or a URL such as "
            "s3://bucket/runs, for a Parquet data set of a file for each run; the same call goes on with it.",
        ),
    ] = None,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="By default what the output's name says.")
    ] = None,
    runs: Runs = None,
    adapter: Adapter = None,
    field_map: FieldMap = None,
    attempts: Annotated[str, typer.Option(help="latest, or all: superseded steps too.")] = "latest",
    join: Annotated[bool, typer.Option(help="Count a run that resumed another one as that one.")] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(help="A Dask scheduler, such as tcp://host:8786, whose workers write the data set."),
    ] = None,
    again: Annotated[bool, typer.Option(help="Write what is up to date in a data set, too.")] = False,
    as_json: Json = False,
) -> None:
    """Read runs into the TrainingMetrics table.

    Without an output: a first look at each run, and the last rows.
    """
    form = _form(output_format, output, as_json=as_json)
    reading = {"adapter_hint": adapter, "attempts": attempts, "field_map": options.field_map(field_map)}
    if output is not None and _is_data_set(output, form):
        _only_for_files({"--runs": runs, "--join": join})
        _write_dataset(sources, output, reading | {"again": again}, scheduler, as_json=as_json)
        return
    _only_for_data_sets({"--scheduler": scheduler, "--again": again})
    _must_not_replace(sources, output)
    table = _picked(_read(sources, reading | {"join": join}), runs)
    if output is not None or form is not None:
        _write(table, output, form)
    if as_json:
        write_document(_document(table, output))
    elif output is None and form is None:
        _show(table)
    notes(table.attrs["problems"])


def _must_not_replace(sources: list[str], out: str | None) -> None:
    """Refuse an output that is one of the sources.

    Raises:
        SettingError: It is.
    """
    for source in sources if out is not None and Path(out).exists() else []:
        if Path(source).exists() and Path(source).samefile(str(out)):
            raise SettingError("--output", out, "another file: this one is a source, which would be lost")


def _read(sources: list[str], asked: dict[str, Any]) -> pd.DataFrame:
    from rldk.ingest import ingest_runs

    with _unsaid(), reading_bar() as watch:
        table: pd.DataFrame = ingest_runs(sources, watch=watch, **asked)
    return table


@contextmanager
def _unsaid() -> Iterator[None]:
    """Have loggers leave out their warnings: they are shown below the table."""
    levels = {name: logging.getLogger(name).level for name in _TALKERS}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _form(given: Format | None, out: str | None, *, as_json: bool) -> Form | None:
    if given is Format.parquet and out is None:
        raise SettingError("--format", "parquet", "an --output file with it")
    if given is Format.table and out is not None:
        raise SettingError(
            "--format", "table", "csv, parquet or jsonl: a table is only shown, without --output"
        )
    if as_json and given is not None and out is None:
        raise SettingError("--format", str(given), "an --output file with it: --json has stdout for itself")
    return None if given in {None, Format.table} else cast("Form", str(given))


def _is_data_set(out: str, form: Form | None) -> bool:
    """Whether an output is a folder for a data set, and no file.

    Raises:
        SettingError: It may be either, or neither.
    """
    from rldk.export import form_of

    if form is not None or form_of(out) is not None:
        if "://" in out or Path(out).is_dir():
            raise SettingError(
                "--output", out, "a file on this machine, or a folder or URL without a file's ending"
            )
        return False
    if Path(out).suffix and "://" not in out and not out.endswith("/") and not Path(out).is_dir():
        allowed = "a name ending in .csv, .parquet or .jsonl, or --format, or a folder with / behind it"
        raise SettingError("--output", out, allowed)
    return True


def _only_for_files(given: dict[str, Any]) -> None:
    for option, value in given.items():
        if value and value != ["all"]:
            raise SettingError(option, value, "it without a data set: its files hold whole sources")


def _only_for_data_sets(given: dict[str, Any]) -> None:
    for option, value in given.items():
        if value:
            raise SettingError(option, value, "a folder or URL for a data set as --output with it")


def _picked(table: pd.DataFrame, patterns: list[str] | None) -> pd.DataFrame:
    """Leave out the runs that were not asked for.

    Raises:
        SettingError: None was, of those that are there.
    """
    from rldk.sources import is_wanted, none_wanted

    there = [str(run_id) for run_id in table["run_id"].unique()]
    wanted = [run for run in there if is_wanted(run, patterns)]
    if len(wanted) == len(there):
        return table
    if not wanted:
        raise none_wanted(patterns or [], there)
    picked = table[table["run_id"].isin(wanted)].reset_index(drop=True)
    picked.attrs |= table.attrs
    return picked


def _write(table: pd.DataFrame, out: str | None, form: Form | None) -> None:
    """Write the table; to standard output where no file is named."""
    from rldk import export

    if out is not None:
        export.write(table, Path(out), form)
    elif form in {"csv", "jsonl"}:
        export.write_text(table, sys.stdout, form)


def _write_dataset(
    sources: list[str], out: str, asked: dict[str, Any], scheduler: str | None, *, as_json: bool
) -> None:
    from rldk.dataset import write_dataset

    with _client(scheduler) as client, _unsaid(), reading_bar() as watch:
        done = write_dataset(sources, out, client=client, watch=watch, **asked)
    if as_json:
        write_document({"output": out, **msgspec.structs.asdict(done)})
    else:
        _tell(done, out)
    notes([*done.failed.values(), *done.problems])


@contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """A connection to a Dask cluster; None where none is named."""
    if address is None:
        yield None
        return
    from rldk.errors import MissingDependencyError

    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError("--scheduler", "distributed", "dask") from error
    try:
        _must_answer(address)
        client = Client(address, timeout=5, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise SettingError("--scheduler", address, f"the address of one that answers ({error})") from error
    with client:
        yield client


def _must_answer(address: str) -> None:
    """Make sure that somebody listens there: a client of Dask that finds nobody leaves tracebacks behind.

    Raises:
        OSError: Nobody does.
        ValueError: It is no address.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in {"tcp", "tls"}:
        return
    if parts.hostname is None or parts.port is None:
        raise ValueError("it has no host or no port")
    socket.create_connection((parts.hostname, parts.port), timeout=5).close()


def _tell(done: Done, out: str) -> None:
    from rldk.redact import redact_text

    told = f"{len(done.written)} files with {done.rows} rows written, {len(done.kept)} were up to date"
    console.print(f"{redact_text(out)}: {told}", markup=False, soft_wrap=True)


def _document(table: pd.DataFrame, out: str | None) -> dict[str, Any]:
    known, unknown = _metrics(table)
    return {
        "adapter": table.attrs["adapter"],
        "output": out,
        "rows": len(table),
        "runs": [
            {
                "run_id": str(run_id),
                "trainer": table.attrs["trainers"].get(run_id),
                "rows": len(rows),
                "first_step": int(rows["step"].min()),
                "last_step": int(rows["step"].max()),
                "first_bad_step": _first_bad(rows),
            }
            for run_id, rows in table.groupby("run_id", sort=False)
        ],
        "metrics": {"known": known, "unknown": unknown},
        "units": table.attrs["units"],
        "problems": table.attrs["problems"],
    }


def _show(table: pd.DataFrame) -> None:
    attrs = table.attrs
    console.print(
        f"read by {attrs['adapter']}: {len(table)} rows, {len(table.columns)} columns", markup=False
    )
    look = Table(title="Runs", title_justify="left")
    for heading in ("run", "trainer", "rows", "steps", "first step with a value that is not finite"):
        look.add_column(heading)
    runs = table["run_id"].unique()
    shown_runs = table[table["run_id"].isin(runs[:_NAMES_SHOWN])]
    for run_id, rows in shown_runs.groupby("run_id", sort=False):
        steps = f"{rows['step'].min()} to {rows['step'].max()}"
        trainer = attrs["trainers"].get(run_id, "unknown")
        bad = _first_bad(rows)
        look.add_row(escape(str(run_id)), trainer, str(len(rows)), steps, "none" if bad is None else str(bad))
    console.print(look)
    if len(runs) > _NAMES_SHOWN:
        console.print(f"and {len(runs) - _NAMES_SHOWN:,} more", markup=False)
    _show_columns(table)
    shown = [name for name in _SHOWN if table[name].notna().any()]
    last = Table(title="The last rows", title_justify="left")
    for name in shown:
        last.add_column(name, justify="right")
    for row in table.tail(_LAST_ROWS)[shown].itertuples(index=False):
        last.add_row(*(_cell(value) for value in row))
    console.print(last)


def _show_columns(table: pd.DataFrame) -> None:
    """Say which metrics were measured, and whether the catalog knows them."""
    for what, names in zip(("known", "not known"), _metrics(table), strict=True):
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        listed = ", ".join(names[:_NAMES_SHOWN]) + more
        console.print(
            f"{len(names)} metrics are {what} to the catalog{': ' * bool(names)}{listed}", markup=False
        )


def _metrics(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The metrics that were measured: those that the catalog knows, and those that it does not."""
    from rldk.schema import DTYPES, METRIC_DTYPE

    measured = [str(name) for name in table if DTYPES.get(str(name), METRIC_DTYPE) == METRIC_DTYPE]
    measured = [name for name in measured if table[name].notna().any()]
    known = [name for name in measured if _is_known(name)]
    return known, [name for name in measured if name not in known]


def _is_known(name: str) -> bool:
    from rldk import catalog

    return catalog.named(name) is not None


def _first_bad(rows: pd.DataFrame) -> int | None:
    """The first step with a value that is not finite."""
    import numpy as np

    floats = rows.select_dtypes("Float64")
    bad = [~np.isfinite(floats[name].to_numpy("float64", na_value=0.0)) for name in floats]
    found = np.logical_or.reduce(bad) if bad else np.zeros(len(rows), dtype=bool)
    return int(rows["step"].to_numpy()[found][0]) if found.any() else None


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if str(value) == "<NA>" else escape(str(value))
