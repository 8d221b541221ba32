"""A training process, as its parent sees it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, Self

import psutil

from rldk.journal import SUFFIX
from rldk.report.outputs import PAGE
from tests.faults._life import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_GLANCE_S: Final = 0.01


class AbortedError(Exception):
    """The process aborted where it should have ended."""


class Child:
    """A process that records, and does nothing unless it is told to; see `_life.py`.

    Attributes:
        process: The process.
        path: The journal.
        logged: The steps that it has logged.
        reports: What its deliveries reported at the end.
        end_s: How long it took from the last that it was told to the end of the process.
    """

    def __init__(
        self,
        folder: Path,
        *trackers: str,
        module: str = "tests.faults._life",
        wrapper: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        command = [
            *wrapper,
            sys.executable,
            "-W",
            "ignore",
            "-X",
            "faulthandler",
            "-m",
            module,
            str(folder),
            *trackers,
        ]
        pipe = subprocess.PIPE
        self.path = folder / f"{RUN_ID}{SUFFIX}"
        self.logged: list[int] = []
        self.reports: list[SimpleNamespace] = []
        self.end_s = 0.0
        self._last_told = 0.0
        self._is_aborted = False
        self._errors = folder.parent / "stderr.txt"
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=env
            )

    def __enter__(self) -> Self:
        self.hear("ready")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            for each in [*self.family(), psutil.Process(self.process.pid)]:
                each.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def say(self, text: str) -> None:
        """Tell it something, and go on at once."""
        self._last_told = time.monotonic()
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def hear(self, expected: str = "done") -> None:
        """Wait for its answer."""
        answer = self.process.stdout.readline().strip()
        if answer != expected:
            raise RuntimeError(answer, self.read_errors())

    def read_errors(self) -> str:
        """What it has written to the standard error."""
        return self._errors.read_text("utf-8")

    def tell(self, text: str) -> None:
        """Tell it something, and wait until it is done."""
        self.say(text)
        self.hear()

    def log(self, count: int) -> None:
        """Have it log so many steps more."""
        self.tell(f"log {count}")
        last = self.logged[-1] if self.logged else 0
        self.logged += range(last + 1, last + 1 + count)

    def arrive(self) -> None:
        """Wait until its trackers have accepted all that was logged."""
        self.tell("arrive")

    def await_failure(self) -> None:
        """Wait until one of its deliveries has failed."""
        self.tell("await_failure")

    def end(self, status: str = "FINISHED", patience_s: float = 15.0) -> SimpleNamespace:
        """Have it end, and wait until it has; give its first tracker's report."""
        self.begin_to_end(status)
        return self.ended(patience_s)

    def fork(self, how: str) -> int:
        """Have it fork a child; give that one's id, or its exit status where it has ended."""
        self.say(f"fork {how}")
        return int(self.process.stdout.readline())

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._last_told = time.monotonic()
        self.process.send_signal(number)

    def await_report(self) -> None:
        """Wait until it has written its report at the end of training: then it delivers what is left."""
        while not self.path.with_name(RUN_ID + PAGE).exists():
            time.sleep(_GLANCE_S)

    def begin_to_end(self, status: str = "FINISHED") -> None:
        """Have it end, and wait until its deliveries have."""
        self.say(f"end {status}")
        self.hear_reports()

    def hear_reports(self) -> None:
        """Hear what its deliveries report."""
        answer = self.process.stdout.readline()
        self.reports = [SimpleNamespace(**report) for report in json.loads(answer or "[]")]

    def ended(self, patience_s: float = 15.0) -> SimpleNamespace:
        """Wait until the process has ended; give its first tracker's report."""
        code = self.gone(patience_s)
        if code == -signal.SIGABRT and not self._is_aborted:
            raise AbortedError(self.read_errors())
        if code or not self.reports:
            raise RuntimeError(code, self.read_errors())
        return self.reports[0]

    def gone(self, patience_s: float = 15.0) -> int:
        """Wait until the process is gone, in whatever way; give its exit code."""
        code = self._awaited(patience_s)
        self.end_s = time.monotonic() - self._last_told
        return code

    def _awaited(self, patience_s: float) -> int:
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._is_aborted = True
            self.process.send_signal(signal.SIGABRT)  # it tells where it hangs
            return self.process.wait()

    def family(self) -> list[psutil.Process]:
        """The processes that it has started, such as wandb-core."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def core(self) -> psutil.Process:
        """Its wandb-core."""
        alive = (each for each in self.family() if each.status() != psutil.STATUS_ZOMBIE)
        (found,) = (each for each in alive if each.name() == "wandb-core")
        return found
