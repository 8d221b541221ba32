"""Does memory run out?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rldk.health.robust import median
from rldk.health.rule import Evidence, Persistence, Rule, Verdict, firing, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Series, Window

HOST: Final = "host_memory_used_frac"
DEVICE: Final = re.compile(r"gpu\d+_memory_used_frac")

_SAMPLES: Final = 24
_START: Final = 8
_HALF_FULL: Final = 0.5
_FULL: Final = 0.95
_LEAST_RISE: Final = 0.02
_SAMPLES_LEFT: Final = 240


class MemoryCreep(Rule):
    """The memory of a device, or of the host, grows steadily towards its limit.

    An allocator that holds 97 % and no more is no trouble; so it is the growth that counts, over the last
    24 samples, and when it would meet the limit.
    """

    name = "memory_creep"
    title = "Memory creep"
    reads = units(host_memory_used_frac="fraction")
    part = "resource"
    warm_up = _START + _SAMPLES
    persistence = Persistence(3, 5)
    cooldown = 100
    meaning = "something is kept that is never freed, and the run will end out of memory"
    advice = (
        "look for tensors that are kept with their graph (append(loss) without .item()), growing caches and "
        "ever longer completions; save checkpoints more often until it is found"
    )
    source = "https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management"

    def judge(self, window: Window) -> Verdict:
        """Rising in each third of 24 samples by 2 % of the limit in all, and the limit within 240 samples."""
        found = [
            _rise(name, window.series(name, "resource"))
            for name in (HOST, *devices(window))
            if len(window.series(name, "resource")) >= _START + _SAMPLES
        ]
        bad = [verdict for verdict in found if verdict.state == "firing"]
        return max(bad or found or [ok()], key=_fullness)

    @property
    def looks_at(self) -> tuple[str, ...]:  # type: ignore[override]  # a device has a number
        """The devices that a machine can have."""
        return tuple(f"gpu{number}_memory_used_frac" for number in range(64))


def devices(window: Window) -> list[str]:
    """Names of the memory of each device that the newest sample tells of."""
    return [name for name in window.current if DEVICE.fullmatch(name)]


def _fullness(verdict: Verdict) -> float:
    used = verdict.evidence.get("used", 0.0)
    return used if isinstance(used, float) else 0.0


def _rise(name: str, series: Series) -> Verdict:
    values = series.last(_SAMPLES)
    third = _SAMPLES // 3
    first, middle, last = (median(values[i : i + third]) for i in range(0, _SAMPLES, third))
    rise, now = last - first, values[-1]
    each = rise / (2 * third)
    left = (1 - now) / each if each > 0 else float("inf")
    where = "the host" if name == HOST else name.partition("_")[0]
    told = f"{where} uses {now:.0%} of its memory, {rise:+.1%} over the last {_SAMPLES} samples"
    evidence: Evidence = {"memory": name, "used": float(now), "rise": rise, "samples_left": left}
    is_rising = first < middle < last and rise >= _LEAST_RISE
    if not (is_rising and now >= _HALF_FULL and left <= _SAMPLES_LEFT):
        return ok(told, **evidence)
    return firing(
        "critical" if now >= _FULL else "warning", f"{told}; full in about {left:.0f} more", **evidence
    )
