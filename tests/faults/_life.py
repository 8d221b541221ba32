"""A segment of a run without a trainer: the recorder, its journal, the deliveries and real sinks.

As a program it does what is written to it, a line each, and answers with a line: the names of methods of
`Life`. The answer to `end` is what its deliveries report, in JSON; then the process ends.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from rldk import bridge, journal, settings
from rldk.bridge import Target
from rldk.cursor import CursorFile
from rldk.errors import ForkedError
from rldk.journal import SUFFIX, Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from rldk_wandb import own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rldk.bridge import Sink
    from rldk.delivery import DeliveryReport
    from rldk.recorder import Clock

RUN_ID: Final = "faulty-run"
DEADLINE_S: Final = 1.0
SLACK_S: Final = 1.0
FAST: Final = Settings(
    linger_s=0.02,
    retry_first_s=0.05,
    retry_most_s=0.2,
    close_deadline_s=DEADLINE_S,
    term_deadline_s=DEADLINE_S,
)
_NAN_EVERY: Final = 7
_PATIENCE_S: Final = 60.0
_GLANCE_S: Final = 0.01


class Life:
    """One start of a training process.

    Attributes:
        path: The journal.
        logged: The step of each log, in order; a step is added when `log` has returned.
        reports: What the deliveries reported at the end.
        end_s: How long the end took.
    """

    def __init__(
        self, folder: Path, sinks: Iterable[Sink], *, settings: Settings = FAST, clock: Clock = time
    ) -> None:
        self.path = folder / f"{RUN_ID}{SUFFIX}"
        opened = Journal(self.path)
        self.logged = [event.step for event in events_of(self.path) if event.kind == "metrics"]
        self.reports: list[DeliveryReport] = []
        self.end_s = math.nan
        run = Run(run_id=RUN_ID, trainer="GRPO", seed=7, git_sha="abc123")
        self._recorder = Recorder(opened, run, settings=settings, clock=clock, rules=())
        self._recorder.begin(self._step, sinks)

    @property
    def _step(self) -> int:
        return self.logged[-1] if self.logged else 0

    def log(self, count: int = 1) -> None:
        """Log so many steps more."""
        for step in range(self._step + 1, self._step + 1 + count):
            loss = math.nan if step % _NAN_EVERY == 0 else 1 / step
            self._recorder.log(step, {"loss": loss, "reward": step / 3, "kl": 1e-3 * step})
            self.logged.append(step)

    def arrive(self) -> None:
        """Wait until the trackers have accepted all that was logged."""
        self._await(lambda: not any(report.waiting for report in self.report()))

    def await_failure(self) -> None:
        """Wait until a try of a delivery has failed."""
        self._await(lambda: any(report.failures for report in self.report()))

    def _await(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not is_so():
            is_running = all(delivery.is_running() for delivery in self._recorder._deliveries)
            if not is_running or time.monotonic() > end:
                raise TimeoutError(self.report())
            time.sleep(_GLANCE_S)

    def report(self) -> list[DeliveryReport]:
        """What the deliveries report now."""
        return [delivery.report() for delivery in self._recorder._deliveries]

    def fork(self, how: str) -> int:
        """Fork a child that tries to record, and give its id; the one that will `exit` has ended."""
        if how == "worker":
            worker = multiprocessing.get_context("fork").Process(target=self._live_as_child)
            worker.start()
            return worker.pid or 0
        pid = os.fork()
        if pid == 0 and how == "exit":
            raise SystemExit(0)
        if pid == 0:
            self._live_as_child()
        return os.waitpid(pid, 0)[1] if how == "exit" else pid

    def _live_as_child(self) -> None:
        with suppress(ForkedError):
            self.log()
            os._exit(1)
        signal.pause()

    def fail(self) -> None:
        """Raise what nobody catches."""
        raise ArithmeticError

    def end(self, status: str = "FINISHED") -> DeliveryReport:
        """End as a training does; give the first tracker's report."""
        began = time.monotonic()
        self.reports = self._recorder.end(status, self._step)
        self.end_s = time.monotonic() - began
        return self.reports[0]


def own_sinks(folder: Path, names: Iterable[str]) -> list[Sink]:
    """Sinks on runs of their own, as the callback makes them: those that the journal went into before."""
    path = folder / f"{RUN_ID}{SUFFIX}"
    saved = {name: CursorFile(path, name).load() if path.exists() else None for name in names}
    targets = {name: one.target if one else Target() for name, one in saved.items()}
    hasty = {name: msgspec.structs.replace(where, patience_s=DEADLINE_S) for name, where in targets.items()}
    return [bridge.sink(name).create(target) for name, target in hasty.items()]


def events_of(path: Path) -> Iterator[journal.Event]:
    """The events of a journal; none where there is no journal."""
    entries = journal.read(path) if path.exists() else ()
    return (entry.event for entry in entries if entry.event is not None)


def is_complete(path: Path, logged: list[int]) -> bool:
    """Whether a journal has every log, once and in order, and its numbers and times only grow."""
    events = list(events_of(path))
    steps = [event.step for event in events if event.kind == "metrics"]
    times = [event.time for event in events]
    is_gapless = [event.seq for event in events] == list(range(len(events)))
    return steps == logged and is_gapless and times == sorted(set(times))


def serve(life: Life) -> None:
    """Do what is asked for on the standard input, and tell in the end what the deliveries report."""
    answer("ready")
    pid = os.getpid()
    try:
        for line in sys.stdin:
            word, *rest = line.split()
            done = getattr(life, word)(*map(_read, rest))
            if word == "end":
                return
            answer("done" if done is None else str(done))
    finally:
        if os.getpid() == pid:
            answer(msgspec.json.encode(life.reports).decode())


def _read(word: str) -> int | str:
    return int(word) if word.isdecimal() else word


def main(kind: type[Life]) -> None:
    """Record to trackers' own runs."""
    own.PATIENCE_S = float(os.environ.get("TEST_WANDB_PATIENCE_S", own.PATIENCE_S))  # type: ignore[misc]
    folder = Path(sys.argv[1])
    serve(kind(folder, own_sinks(folder, sys.argv[2:]), settings=settings.from_environment()))


def answer(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Life)
