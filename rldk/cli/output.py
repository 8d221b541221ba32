"""How is `--json` written: one document on stdout, strict, without secrets, and nothing else there."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from rldk.cli.visible import visible
from rldk.event import as_utf8, spell_non_finite
from rldk.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA: Final = 1
"""The version of the documents: it grows when a field goes or changes its meaning."""

_stdout: ContextVar[TextIO | None] = ContextVar("_stdout", default=None)


@contextmanager
def reserved_stdout() -> Iterator[None]:
    """Have all that is printed go to stderr, whoever prints it, but for the document."""
    before = _stdout.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(before)


def write_document(told: Mapping[str, Any]) -> None:
    """Write a document as one line: NaN and the infinities have their names, and secrets are hidden."""
    plain = msgspec.to_builtins({"schema": SCHEMA, **told}, str_keys=True, enc_hook=str)
    line = msgspec.json.encode(as_utf8(spell_non_finite(redact(plain)))).decode()
    out = _stdout.get() or sys.stdout
    out.write(f"{visible(line)}\n")  # it is JSON still: such letters are in texts alone
    out.flush()
