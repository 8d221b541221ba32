"""What the commands share: the application, how it speaks, and how it fails."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from rldk._version import __version__
from rldk.cli.ending import (
    FOUND,
    INTERRUPTED,
    MISUSED,
    UNHEARD,
    UNREADABLE,
    code_of,
    flush_or_leave,
    leave_output,
    take_closed_streams,
    told,
    traced,
)
from rldk.cli.visible import visible
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.progress import Task
    from rich.text import Text


__all__ = ["FOUND", "MISUSED", "UNREADABLE", "app", "console", "errors", "notes", "progress_bar"]

_LETTERS_SHOWN = 50
_HIDDEN_MARKUP = re.compile(r"(?<!\\)\[hidden\]")


class _Console(Console):
    """A console for foreign texts, which leaves it to the application what becomes of a closed pipe.

    A text is one line: names, ids and messages are foreign, and a newline in them would forge one.
    """

    def render_str(self, text: str, **given: Any) -> Text:  # noqa: ANN401  # rich's own
        """Show a text, also in a cell of a table, without the secrets in it and what steers a terminal."""
        hidden = redact_text(text)
        if hidden != text and given.get("markup", True) is not False:
            hidden = _HIDDEN_MARKUP.sub(r"\\[hidden]", hidden)  # else rich takes it for a style
        return super().render_str(visible(hidden), **given)

    def on_broken_pipe(self) -> None:
        """Go on raising the error."""
        raise BrokenPipeError


console = _Console(highlight=False)
errors = _Console(highlight=False, stderr=True)


@contextmanager
def _ended_quietly() -> Iterator[None]:
    """Have Ctrl-C and a closed pipe end a command without a traceback."""
    try:
        yield
    except BrokenPipeError:
        leave_output()
        raise typer.Exit(UNHEARD) from None
    except SystemExit as end:  # as which rich's own consoles, which write the help, take a closed pipe
        if isinstance(end.__context__, BrokenPipeError):
            raise typer.Exit(UNHEARD) from None
        raise
    except KeyboardInterrupt:
        typer.echo("rldk: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None


class Group(TyperGroup):
    """All commands: each takes `--debug`, and each ends with a code and, where it fails, with one line."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # typer's own
        super().__init__(**given)
        self.is_debug = False
        shared = [param for param in self.params if param.name == "debug"]
        for command in self.commands.values():
            command.params.extend(shared)

    def make_context(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401  # typer's own
        """Read what was typed."""
        with _ended_quietly():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # typer's own
        """Run a command."""
        with _ended_quietly():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  # typer's own
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002  # typer's own
        **extra: Any,  # noqa: ANN401  # typer's own
    ) -> Any:  # noqa: ANN401  # typer's own
        """Run what was typed, and end the process."""
        run = super().main
        take_closed_streams()
        try:
            code = run(args, prog_name, complete_var, False, windows_expand_args, **extra)  # noqa: FBT003  # by place
            sys.stdout.flush()
        except BrokenPipeError:
            code = UNHEARD
        except Exception as error:  # the one place where every error ends
            if not standalone_mode:
                raise
            code = self._failed(error)
        if not standalone_mode:
            return code
        flush_or_leave()
        sys.exit(code if isinstance(code, int) else 0)

    def _failed(self, error: Exception) -> int:
        if self.is_debug:
            typer.echo(traced(error), err=True, nl=False)
        typer.echo(f"rldk: {told(error, self._options())}", err=True)
        return code_of(error)

    def _options(self) -> dict[str, str]:
        """Name the options by what they set."""
        params = [param for command in self.commands.values() for param in command.params]
        known = {str(param.name): param.opts[0] for param in params if param.opts[0].startswith("--")}
        return known | {"alert_thresholds": known["threshold"]}


app = typer.Typer(
    cls=Group,
    help="RLDK: the experiment-tracker bridge for RLHF training with TRL.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001  # typer's callback
    if asked:
        console.print(__version__)
        raise typer.Exit


def _show_tracebacks(ctx: typer.Context, asked: bool) -> bool:  # noqa: FBT001  # typer's callback
    if asked:
        cast("Group", ctx.find_root().command).is_debug = True
    return asked


@app.callback()
def main(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="RLDK_DEBUG",
            callback=_show_tracebacks,
            is_eager=True,
            expose_value=False,
            help="Show the traceback of an error.",
        ),
    ] = False,
) -> None:
    """RLDK: the experiment-tracker bridge for RLHF training with TRL."""
    del version, debug
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(MISUSED)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # they say a lot, and we say what matters
    os.environ.setdefault("WANDB_SILENT", "true")
    # Files come through the server: its store, which it would name, is not for everyone (docs/deployment.md)
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Description(TextColumn):
    """What a task is about, as the console shows a text."""

    def __init__(self) -> None:
        super().__init__("{task.description}")

    def render(self, task: Task) -> Text:
        """Show it."""
        return errors.render_str(task.description)


def progress_bar() -> Progress:
    """A progress bar; silent where the output is no terminal."""
    columns = (_Description(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        console=errors,
        disable=not errors.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed meanwhile would go to stderr, too
    )


@contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show how far a reading is: give what is to be called with each source, its number, and how many."""
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        yield lambda source, number, total: bar.update(
            task,
            description=escape(visible(redact_text(source))[-_LETTERS_SHOWN:]),
            completed=number,
            total=total,
        )


def notes(problems: Iterable[str]) -> None:
    """Say what could not be read."""
    for problem in problems:
        errors.print(f"note: {escape(problem)}", soft_wrap=True)
