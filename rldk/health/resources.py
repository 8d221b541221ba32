"""How much of the machine does the run use: samples of the process and its host."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import psutil

from rldk.errors import RLDKError

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)

INTERVAL_S: Final = 15.0


class Sampler:
    """Samples resources on a thread of its own until it is stopped.

    Args:
        emit: Receives each sample, on the sampler's thread.
        interval_s: Seconds between two samples.
    """

    def __init__(
        self, emit: Callable[[dict[str, int | float]], None], interval_s: float = INTERVAL_S
    ) -> None:
        self._emit = emit
        self._interval_s = interval_s
        self._process = psutil.Process()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rldk-resources", daemon=True)

    def start(self) -> None:
        """Take a first sample now and go on in the background."""
        self._process.cpu_percent()  # psutil measures from the previous call on; the first says nothing
        psutil.cpu_percent()
        self._thread.start()

    def stop(self) -> None:
        """End the sampling; a sample under way is finished."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(self._interval_s)

    def _work(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._emit(self.sample())
            except (OSError, psutil.Error, RLDKError) as error:
                _logger.warning("resource monitoring ends: %s", error)
                return

    def sample(self) -> dict[str, int | float]:
        """Measure once.

        Returns:
            `process_cpu_percent` (100 is one core), `process_rss_bytes`, `host_cpu_percent` (100 is
            all cores), `host_memory_used_bytes` and `host_memory_used_frac`.
        """
        memory = psutil.virtual_memory()
        return {
            "process_cpu_percent": self._process.cpu_percent(),
            "process_rss_bytes": self._process.memory_info().rss,
            "host_cpu_percent": psutil.cpu_percent(),
            "host_memory_used_bytes": memory.total - memory.available,
            "host_memory_used_frac": round(1 - memory.available / memory.total, 6),
        }
