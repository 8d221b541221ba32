"""How much of the machine does the run use: samples of the process, its host and its GPUs."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk.errors import RLDKError
from rldk.health.gpus import Gpus
from rldk.health.host import Host
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    Sample = dict[str, int | float]

_logger = logger(__name__)

INTERVAL_S: Final = 15.0
_FIRST_S: Final = 1.0
_PATIENCE_S: Final = 2.0

UNITS: Final[dict[str, str]] = {
    "process_cpu_percent": "percent of one core",
    "process_rss_bytes": "bytes",
    "host_cpu_percent": "percent of all cores",
    "host_memory_used_bytes": "bytes",
    "host_memory_used_frac": "fraction",
    "disk_used_frac": "fraction",
    "disk_free_bytes": "bytes",
    "disk_read_bytes_per_s": "bytes/s",
    "disk_write_bytes_per_s": "bytes/s",
    "net_received_bytes_per_s": "bytes/s",
    "net_sent_bytes_per_s": "bytes/s",
    "gpu{i}_util_percent": "percent",
    "gpu{i}_memory_used_bytes": "bytes",
    "gpu{i}_memory_total_bytes": "bytes",
    "gpu{i}_memory_used_frac": "fraction",
    "gpu{i}_power_w": "W",
    "gpu{i}_temperature_c": "degrees Celsius",
    "gpu{i}_ecc_uncorrected": "errors",
    "gpu{i}_throttled": "1",
    "gpu{i}_torch_allocated_bytes": "bytes",
    "gpu{i}_torch_reserved_bytes": "bytes",
}
"""The unit of each metric of a sample; `{i}` is the index of a GPU as the process sees it."""


class Sampler:
    """Samples resources on a thread of its own until it is stopped.

    The first sample comes a second after the start, the last when it is stopped, unless one has just been
    taken. `sample` tells what is measured.

    Args:
        emit: Receives each sample, on the sampler's thread; the last one on that of `stop`.
        interval_s: Seconds between two samples.
        folder: The folder whose file system is watched; by default the current one.
    """

    def __init__(
        self,
        emit: Callable[[Sample], object],
        interval_s: float = INTERVAL_S,
        *,
        folder: Path | None = None,
    ) -> None:
        self._emit = emit
        self._interval_s = interval_s
        self._host = Host(folder or Path())
        self._gpus = Gpus()
        self._pid = os.getpid()
        self._last: Sample = {}
        self._has_failed = self._is_over = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rldk-resources", daemon=True)

    def start(self) -> None:
        """Go on in the background; a fork's child has nothing to go on with."""
        if os.getpid() != self._pid:
            return
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads, or the interpreter shuts down
            _logger.warning("resources are not monitored: %s", error)

    def stop(self) -> None:
        """End the sampling with a last sample.

        A driver or a disk that does not answer holds up the end for two seconds at most.
        """
        if os.getpid() != self._pid:
            return
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        # Not emitted on the thread: a signal's handler may stop us while its thread holds the recorder
        last, self._last = self._last, {}
        self._tell(last)
        self._is_over = True

    def sample(self) -> Sample:
        """Measure once; what cannot be measured is left out.

        Returns:
            Finite numbers by the names of `UNITS`.

            The process is this one alone, without its children: they come and go, as data loaders'
            workers do, and count the memory that they share with it once more. What they use shows in
            the host's numbers. The host's memory is that of the process's control group, such as a
            container's or a job's, where that has a limit: used is without the file cache that can be
            dropped, as it is for the whole host. Disk space is that of the watched folder's file system,
            as the user may use it; the disks' and the network's rates are the whole machine's, the
            network's without what stays inside it.

            Each `gpu{i}` is a GPU that the process sees, all of them in each process of a distributed
            training. `memory_used` is that of all processes, with what the driver keeps for itself;
            `ecc_uncorrected` counts since the driver was loaded; `throttled` is 1 while heat or the
            hardware slows the GPU down.
        """
        found = self._host.sample() | self._gpus.sample()
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _work(self) -> None:
        self._host.sample()  # rates are measured from here on
        latest, pause = time.monotonic(), min(_FIRST_S, self._interval_s)
        while not self._stopped.wait(pause):
            self._tell(self.sample())
            latest, pause = time.monotonic(), self._interval_s
        if time.monotonic() - latest >= _FIRST_S:
            self._last = self.sample()
        self._gpus.close()

    def _tell(self, sample: Sample) -> None:
        if not sample or self._is_over:
            return
        try:
            self._emit(sample)
        except (OSError, RLDKError, ValueError) as error:  # the last one from a file that is closed by now
            level = logging.DEBUG if self._has_failed else logging.WARNING
            self._has_failed = True
            _logger.log(level, "a sample of resources is lost, monitoring goes on: %s", error)
        else:
            self._has_failed = False
