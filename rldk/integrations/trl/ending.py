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
    from types import FrameType


class ProcessEnd:
    """Calls back once if the process ends while it is watched.

    SIGTERM is turned into an orderly exit with code 143, so that what is open can be closed. A
    handler that somebody else has set before is called instead, once the signal is noted.

    Args:
        on_end: Receives `KILLED` after SIGTERM or Ctrl-C, else `FAILED`.

    Attributes:
        was_terminated: Whether SIGTERM came while the process was watched.
    """

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self.was_terminated = False
        self._on_end = on_end
        self._pid = os.getpid()
        self._previous: Any = None
        self._is_closing = False
        self._is_exit = False

    def watch(self) -> None:
        """Begin to watch."""
        self.was_terminated = self._is_exit = False
        self._pid = os.getpid()
        atexit.register(self._at_exit)
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
        atexit.unregister(self._at_exit)
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, self._previous)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.was_terminated = True
        if callable(self._previous):
            self._previous(number, frame)
        elif not self._is_closing:
            raise SystemExit(128 + number)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:
            return  # a forked child ends; the training is its parent's
        self._is_exit = True
        # The interpreter keeps the exception that nobody caught here.
        interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
        self._on_end("KILLED" if self.was_terminated or interrupted else "FAILED")


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
