"""How does the process end, when it ends before training does?"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType


class ProcessEnd:
    """Calls back once if the process ends while it is watched.

    It does so while the interpreter is still whole, after an exception that nobody caught or on
    SIGTERM: once it shuts down, threads can import nothing and start no others. SIGTERM ends the
    process with code 143; a handler that somebody else has set before is called instead, once the
    signal is noted.

    Args:
        on_end: Receives `KILLED` after SIGTERM or Ctrl-C, else `FAILED`.
        on_hurry: Called when SIGTERM comes while `closing` is at work, which should then end soon.

    Attributes:
        was_terminated: Whether SIGTERM came while the process was watched.
    """

    def __init__(self, on_end: Callable[[str], None], on_hurry: Callable[[], None]) -> None:
        self.was_terminated = False
        self._on_end = on_end
        self._on_hurry = on_hurry
        self._pid = os.getpid()
        self._previous: Any = None
        self._previous_hook: Any = None
        self._is_closing = False
        self._is_exit = False
        self._is_watching = False

    def watch(self) -> None:
        """Begin to watch."""
        self.was_terminated = self._is_exit = False
        self._is_watching = True
        self._pid = os.getpid()
        atexit.register(self._at_exit)
        self._previous_hook, sys.excepthook = sys.excepthook, self._uncaught
        previous = signal.getsignal(signal.SIGTERM)
        if _is_main_thread() and previous not in {signal.SIG_IGN, None}:
            self._previous = previous
            signal.signal(signal.SIGTERM, self._terminate)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let what is open be closed: SIGTERM waits until that is done, and then nobody watches any more."""
        was_terminated = self.was_terminated
        self._is_closing = True
        try:
            yield
        finally:
            self._is_closing = False
            self._unwatch()
        if self.was_terminated and not was_terminated and not callable(self._previous) and not self._is_exit:
            raise SystemExit(128 + signal.SIGTERM)

    def _unwatch(self) -> None:
        """Leave the process as it was found."""
        self._is_watching = False
        atexit.unregister(self._at_exit)
        if sys.excepthook == self._uncaught:
            sys.excepthook = self._previous_hook
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, self._previous)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.was_terminated = True
        if self._is_closing:
            self._on_hurry()
        if callable(self._previous):
            self._previous(number, frame)
        elif not self._is_closing:
            self._end("KILLED")
            raise SystemExit(128 + number)

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._previous_hook(kind, error, trace)
        self._end("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    def _at_exit(self) -> None:
        self._is_exit = True
        self._end("KILLED" if self.was_terminated else "FAILED")

    def _end(self, status: str) -> None:
        # A forked child ends alone: the training is its parent's
        if self._is_watching and os.getpid() == self._pid:
            self._is_watching = False
            self._on_end(status)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
