"""A sink in memory, and a clock that stands still: what those who build on RLDK test with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar, Self

from rldk.bridge import Home, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rldk.bridge import Receipt
    from rldk.event import Event


class MemorySink:
    """A sink that keeps what it receives.

    Attributes:
        received: Every event that `send` accepted, in order.
        faults: Raised by the next calls, one each, before anything is accepted.
        refuses: Steps whose events are refused for good, by what is raised for them.
        closed_with: Status and files that `close` was given; None until then.
        hold: Cleared, it makes every call wait until it is set again.
    """

    name: ClassVar[str] = "memory"
    losses: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tracker_run_id: str = "memory-run") -> None:
        self.tracker_run_id: str | None = tracker_run_id
        self.received: list[Event] = []
        self.faults: list[Exception] = []
        self.refuses: dict[int, Exception] = {}
        self.closed_with: tuple[str | None, list[Path]] | None = None
        self.hold = threading.Event()
        self.hold.set()

    @classmethod
    def attach(cls) -> Self | None:
        """No run is ever active in memory."""
        return None

    @classmethod
    def create(cls, target: Target = Target()) -> Self:  # noqa: B008  # it is immutable
        """A sink on a run of its own, or on the target's."""
        return cls(target.run_id or "memory-run")

    @classmethod
    def kept(cls, name: str, value: float) -> tuple[str, float]:
        """Memory keeps everything."""
        return name, value

    def open(self, run: Event) -> Home:
        """Accept the run, unless a fault is due."""
        del run
        self._may_fail()
        return Home("memory", str(self.tracker_run_id), f"memory:{self.tracker_run_id}")

    def settle(self, receipt: Receipt | None) -> float:
        """Believe what was noted."""
        return receipt.at if receipt else 0.0

    def send(self, events: Sequence[Event]) -> None:
        """Accept the events, unless a fault is due or one of them is refused."""
        self._may_fail()
        for event in events:
            if event.step in self.refuses:
                raise self.refuses[event.step]
        self.received += events

    def close(self, status: str | None, artifacts: Sequence[Path], *, is_exit: bool = False) -> None:
        """Remember how the run ended, unless a fault is due."""
        del is_exit
        self._may_fail()
        self.closed_with = (status, list(artifacts))

    def _may_fail(self) -> None:
        self.hold.wait()
        if self.faults:
            raise self.faults.pop(0)


class ManualClock:
    """A clock that moves only when it is told to.

    Attributes:
        epoch: What `time` says, in seconds.
        elapsed: What `monotonic` says, in seconds.
    """

    def __init__(self, epoch: float = 1_763_847_500.0) -> None:
        self.epoch = epoch
        self.elapsed = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.epoch

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self.elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.epoch += seconds
        self.elapsed += seconds
