"""How does the process end, when it ends before training does?"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class ProcessEnd:
    """Calls back once if the process ends while it is watched.

    SIGTERM, unless somebody else handles it, is turned into an orderly exit with code 143, so that
    what is open can be closed.

    Args:
        on_end: Receives `KILLED` after SIGTERM or Ctrl-C, else `FAILED`.
    """

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._was_terminated = False
        self._pid = os.getpid()
        self._handles_sigterm = False

    def watch(self) -> None:
        """Begin to watch."""
        atexit.register(self._at_exit)
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)
            self._handles_sigterm = True

    def unwatch(self) -> None:
        """Leave the process as it was found."""
        atexit.unregister(self._at_exit)
        if self._handles_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._handles_sigterm = False

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._was_terminated = True
        raise SystemExit(128 + number)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:
            return  # a forked child ends; the training is its parent's
        # The interpreter keeps the exception that nobody caught here.
        interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
        self._on_end("KILLED" if self._was_terminated or interrupted else "FAILED")
