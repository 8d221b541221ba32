"""How does a command end: with which code, and with which one line on stderr?"""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from rldk.cli.visible import visible
from rldk.errors import RLDKError, SettingError, SourceError
from rldk.redact import redact_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOUND: Final = 1
"""Exit code where a command found what it looks for: a difference, something that did not arrive."""
MISUSED: Final = 2
"""Exit code where the command cannot do what it was asked for."""
UNREADABLE: Final = 3
"""Exit code where a source cannot be read."""
BROKEN: Final = 70
"""Exit code of an error that nobody foresaw: a fault of RLDK (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells count it: 128 and the number of SIGINT."""
UNHEARD: Final = 141
"""Exit code where nobody reads the output any more: 128 and the number of SIGPIPE."""

_LINE_ENDS: Final = re.compile(r"[\t-\r\x85\u2028\u2029]+ *")
USAGE_ERROR: Final[type[Any]] = typer.BadParameter.__mro__[1]
"""typer's error of wrong usage: it has its own copy of click since 0.26, and exports the subclass alone."""


def code_of(error: Exception) -> int:
    """Give the exit code that stands for an error."""
    if isinstance(error, SourceError):
        return UNREADABLE
    is_foreseen = isinstance(error, RLDKError | USAGE_ERROR) or _is_the_systems(error)
    return MISUSED if is_foreseen else BROKEN


def told(error: Exception, options: Mapping[str, str]) -> str:
    """Say in one line, without secrets, what happened and what to do next.

    Args:
        error: What happened.
        options: The options by the names of the parameters that they set, by which Python's users know them.
    """
    if isinstance(error, SettingError) and (name := error.name.partition("[")[0]) in options:
        return one_line(options[name] + str(error).removeprefix(name))
    if isinstance(error, RLDKError):
        return one_line(str(error))
    if isinstance(error, USAGE_ERROR):
        return one_line(_usage(error))
    if isinstance(error, OSError) and _is_the_systems(error):
        remedy = "check the path and its rights" if error.filename else "--debug shows where"
        return one_line(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}; {remedy}")
    what = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    return one_line(f"{what}; this is a fault of RLDK: report it with what --debug shows")


def _is_the_systems(error: Exception) -> bool:
    """Whether the operating system refused something: a file, a full disk."""
    return isinstance(error, OSError) and bool(error.strerror)


def _usage(error: Any) -> str:  # noqa: ANN401  # a class of typer's copy of click
    typed = error.ctx.command_path.split()[1:] if error.ctx is not None else []
    said = error.format_message().rstrip().removesuffix(".")
    return f"{said}; see {' '.join(['rldk', *typed, '--help'])}"


def one_line(text: str) -> str:
    """Make a text fit on one line of a terminal, without its secrets and what would steer the terminal."""
    return visible(_LINE_ENDS.sub(" ", redact_sentence(text))).strip()


def traced(error: Exception) -> str:
    """Give an error's traceback, without secrets."""
    return "".join(_lines(error))


def _lines(error: Exception) -> Iterator[str]:
    for part in traceback.format_exception(error):
        yield "\n".join(map(visible, redact_sentence(part).split("\n")))


def take_closed_streams() -> None:
    """Have a stream that was closed before we began (`>&-`) lead nowhere.

    Its number is taken with it, which a file that is opened would get, and be written into by whoever prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # to the end


def leave_output() -> None:
    """Have the interpreter not write to a closed pipe once more when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # no file is behind it, as in tests
        return
    os.close(nowhere)


def flush_or_leave() -> None:
    """Write out what waits, unless it cannot be written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        leave_output()
