"""What the commands share: the application, how it speaks, and how it fails."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rldk._version import __version__
from rldk.errors import SourceError

if TYPE_CHECKING:
    from rldk.errors import RLDKError

FOUND: Final = 1
"""Exit code where a command found what it looks for: a difference, something that did not arrive."""
MISUSED: Final = 2
"""Exit code where the command cannot do what it was asked for."""
UNREADABLE: Final = 3
"""Exit code where a source cannot be read."""

app = typer.Typer(
    help="RLDK: the experiment-tracker bridge for RLHF training with TRL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)
errors = Console(highlight=False, stderr=True)


def _show_version(asked: bool) -> None:  # noqa: FBT001  # typer's callback
    if asked:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """RLDK: the experiment-tracker bridge for RLHF training with TRL."""
    del version
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # they say a lot, and we say what matters
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def progress_bar() -> Progress:
    """A progress bar; silent where the output is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, disable=not errors.is_terminal)


def fail(error: RLDKError) -> NoReturn:
    """Say what went wrong, in one line, and end."""
    typer.echo(f"rldk: {error}", err=True)
    raise typer.Exit(UNREADABLE if isinstance(error, SourceError) else MISUSED)
