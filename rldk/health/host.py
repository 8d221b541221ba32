"""How much processor, memory, disk and network do the process and its machine use?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from rldk.health.cgroups import MemoryLimits
from rldk.health.rates import Rates
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    Sample = dict[str, int | float]

_logger = logger(__name__)

# What psutil raises where /proc is hidden, cut down or read by half (AccessDenied, NoSuchProcess, ...)
_FAILURES: Final = (psutil.Error, OSError, NotImplementedError, ValueError, LookupError, ArithmeticError)
_INTERFACES: Final = Path("/sys/class/net")


class Host:
    """Measures by psutil; what cannot be measured is left out, and nothing else with it.

    Args:
        folder: The folder whose file system is watched; where it does not exist, the nearest around it.
        clock: Seconds that never step back.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder.absolute()  # the script may change its folder
        self._process = psutil.Process()
        self._limits = MemoryLimits()
        self._rates = Rates(clock)
        self._failed: set[str] = set()
        self._measures = (
            *(self._process_cpu, self._process_memory, self._host_cpu, self._host_memory),
            *(self._disk_space, self._disk_traffic, self._network),
        )

    def sample(self) -> Sample:
        """Measure once; what is told per second, or in percent, needs an earlier sample."""
        found: Sample = {}
        for measure in self._measures:
            try:
                found |= measure()
            except _FAILURES as error:
                if measure.__name__ not in self._failed:
                    _logger.debug("not measured:%s: %r", measure.__name__.replace("_", " "), error)
                self._failed.add(measure.__name__)
        return found

    def _process_cpu(self) -> Sample:
        times = self._process.cpu_times()
        return _known({"process_cpu_percent": self._rates.of("process", times.user + times.system)}, 100)

    def _process_memory(self) -> Sample:
        return {"process_rss_bytes": self._process.memory_info().rss}

    def _host_cpu(self) -> Sample:
        times = psutil.cpu_times()
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # Linux counts them in user
        total = sum(times) - guests
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        spent, passed = self._rates.of("busy", busy), self._rates.of("cores", total)
        if spent is None or not passed:
            return {}
        return _known({"host_cpu_percent": min(spent / passed, 1.0)}, 100)

    def _host_memory(self) -> Sample:
        memory = psutil.virtual_memory()
        limited = self._limits.tightest(memory.total)
        used, total = limited or (memory.total - memory.available, memory.total)
        return {"host_memory_used_bytes": used, "host_memory_used_frac": round(used / total, 6)}

    def _disk_space(self) -> Sample:
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        disk = psutil.disk_usage(str(there))
        frac = round(disk.used / (disk.used + disk.free), 6)  # as df: what root keeps for itself is neither
        return {"disk_used_frac": frac, "disk_free_bytes": disk.free}

    def _disk_traffic(self) -> Sample:
        disks = psutil.disk_io_counters(nowrap=False)
        return {} if disks is None else self._traffic("disk", read=disks.read_bytes, write=disks.write_bytes)

    def _network(self) -> Sample:
        cards = _outer(psutil.net_io_counters(pernic=True, nowrap=False))
        received = sum(card.bytes_recv for card in cards.values())
        sent = sum(card.bytes_sent for card in cards.values())
        return self._traffic("net", source=frozenset(cards), received=received, sent=sent) if cards else {}

    def _traffic(self, what: str, source: object = None, **totals: int) -> Sample:
        names = {way: f"{what}_{way}_bytes_per_s" for way in totals}
        return _known({names[w]: self._rates.of(names[w], totals[w], source=source) for w in totals})


def _known(rates: dict[str, float | None], times: float = 1) -> Sample:
    return {name: round(times * rate, 1) for name, rate in rates.items() if rate is not None}


def _outer(cards: dict[str, Any]) -> dict[str, Any]:
    """The network cards that count what enters and leaves the machine, each byte once.

    That is the real ones where there are any: bridges, bonds and tunnels count the same bytes again. In
    a container there are none, and all but the loopback count.
    """
    real = {name: card for name, card in cards.items() if (_INTERFACES / name / "device").exists()}
    return real or {name: card for name, card in cards.items() if not name.startswith(("lo", "Loopback"))}
