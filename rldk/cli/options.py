"""The arguments and options that commands share: one word, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from rldk.cli import completing
from rldk.cli.output import reserved_stdout
from rldk.errors import SettingError

_A_SOURCE: Final = (
    "A run, or what holds many: a journal or a folder of them, trainer_state.json or a checkpoint, a W&B run "
    "folder or page, mlflow.db, an MLflow run or page, CSV, JSONL, Parquet, TensorBoard files, ... "
    "docs/sources.md lists all."
)


def _reserve(ctx: typer.Context, asked: bool) -> bool:  # noqa: FBT001  # typer's callback
    if asked:
        ctx.with_resource(reserved_stdout())
    return asked


Sources = Annotated[list[str], typer.Argument(metavar="SOURCE", help=_A_SOURCE, show_default=False)]
"""The runs that a command is about."""
Runs = Annotated[
    list[str] | None,
    typer.Option(
        "--runs", metavar="ID", help="Only runs with this id; * and ? stand for any text. Again for more."
    ),
]
"""Which of the runs in the sources are meant."""
EachRun = Annotated[
    list[str] | None,
    typer.Option(
        "--runs",
        metavar="ID",
        help="Which run of a source that holds several; given twice, one for each source.",
    ),
]
"""Which run of the first source is meant, and which of the second."""
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="Read the sources with this adapter.",
        autocompletion=completing.adapters,
    ),
]
"""Who reads the sources."""
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="Read the sources with this adapter; given twice, the first and the second each with its own.",
        autocompletion=completing.adapters,
    ),
]
"""Who reads two sources."""
FieldMap = Annotated[
    list[str] | None,
    typer.Option(
        "--field-map",
        metavar="RAW=CANONICAL",
        help="What a name that the catalog does not know is; or a TOML or JSON file of such. Again for more.",
        autocompletion=completing.renamings,
    ),
]
"""What raw names mean."""
Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="FILE", help="A TOML file of rules of your own, and changes to RLDK's."),
]
"""Health rules of the user's."""
Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="NAME=NUMBER",
        help="A limit of alert_thresholds.",
        autocompletion=completing.thresholds,
    ),
]
"""Limits beyond which there is an alert."""
Json = Annotated[
    bool,
    typer.Option(
        "--json", callback=_reserve, help="Write one JSON document (docs/cli.md) to stdout instead."
    ),
]
"""Whether a program reads the answer."""


def field_map(given: list[str] | None) -> dict[str, str]:
    """Read what was given as `--field-map`.

    Raises:
        SettingError: It is neither RAW=CANONICAL nor a file of such.
    """
    told: dict[str, str] = {}
    for each in given or []:
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


def of_each(option: str, given: list[str] | None) -> tuple[str | None, str | None]:
    """Give what an option says of the first and of the second source: once for both, or twice.

    Raises:
        SettingError: It was given more often.
    """
    match given or []:
        case []:
            return None, None
        case [both]:
            return both, both
        case [first, second]:
            return first, second
    raise SettingError(option, ",".join(given or []), "it once, or once for each of the two sources")
