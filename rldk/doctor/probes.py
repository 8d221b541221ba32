"""How are things asked that may hang: in processes of their own, side by side, each with a limit of time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

import msgspec

from rldk.bridge import Probed
from rldk.doctor.finding import Finding
from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GLANCE_S: Final = 0.05
_LONGEST_WORDS: Final = 300


class _Child:
    """One probe at work."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self.out: IO[bytes] = stack.enter_context(TemporaryFile())  # noqa: SIM115  # the stack closes it
        self.errors: IO[bytes] = stack.enter_context(TemporaryFile())  # noqa: SIM115  # the stack closes it
        command = [sys.executable, "-m", "rldk.doctor.child", name]
        self.process = subprocess.Popen(  # noqa: S603  # our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.errors,
            start_new_session=True,  # what it starts is ended with it
        )
        stack.callback(self.end)

    def end(self) -> None:
        """End it, and whatever it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def probe(names: Sequence[str], limit_s: float) -> Iterator[Finding]:
    """Ask several at once; gives what each has found, in the order of the names.

    Args:
        names: Trackers, and what `rldk.doctor.child` knows beside them.
        limit_s: How long all of it may take, in seconds: what one has found by then counts.
    """
    end = time.monotonic() + limit_s
    with ExitStack() as stack:
        children = [_Child(name, stack) for name in names]
        for child in children:
            while child.process.poll() is None and time.monotonic() < end:
                time.sleep(_GLANCE_S)
            is_late = child.process.poll() is None
            child.end()
            yield from _found(child, limit_s if is_late else None)


def _found(child: _Child, late_s: float | None) -> Iterator[Finding]:
    child.out.seek(0)
    for line in child.out.read().splitlines():
        try:
            yield Finding.of(child.name, msgspec.json.decode(line, type=Probed))
        except msgspec.MsgspecError:  # a library has printed something
            continue
    if late_s is not None:
        told = f"no answer within {late_s:g} s: given up"
        remedy = "see whether the server answers at all, or give it longer with --timeout"
        yield Finding(child.name, "time", "problem", told, remedy)
    elif child.process.returncode:
        child.errors.seek(0)
        said = cause(child.errors.read().decode(errors="replace"))
        told = f"the probe failed: {redact_text(said)[:_LONGEST_WORDS]}"
        yield Finding(child.name, "probe", "problem", told, f"run: python -m rldk.doctor.child {child.name}")


def cause(errors: str) -> str:
    """Give the line of a traceback that names the exception: what follows it may be a statement or a link.

    Args:
        errors: What a process wrote to stderr; without a traceback its last line counts.
    """
    _, is_traced, trace = errors.rpartition("Traceback (most recent call last):\n")
    lines = trace.strip("\n").splitlines()
    if is_traced:  # the frames are indented
        lines = [line for line in lines if line and not line[0].isspace()][:1] or lines
    return lines[-1].strip() if lines else ""
