"""How is a sample of resources told in a few words?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rldk.event import as_float

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GPU: Final = re.compile(r"gpu(\d+)_")
_MOST_GPUS: Final = 16


def told(sample: Mapping[str, int | float]) -> list[str]:
    """Tell of the host, then of each GPU, a line each."""
    numbers = {int(found[1]) for name in sample if (found := _GPU.match(name)) and len(found[1]) < 4}  # noqa: PLR2004
    lines = [" · ".join(_host(sample))]
    lines += [" · ".join(_gpu(sample, number)) for number in sorted(numbers)[:_MOST_GPUS]]
    return [line for line in lines if line]


def _host(sample: Mapping[str, int | float]) -> Iterator[str]:
    for name, word, form in _HOST:
        if name in sample:
            yield f"{word} {form(as_float(sample[name]))}"


def _gpu(sample: Mapping[str, int | float], number: int) -> Iterator[str]:
    found = False
    for name, form in _OF_GPU:
        value = sample.get(f"gpu{number}_{name}")
        if value is not None:
            yield ("" if found else f"gpu{number} ") + form(as_float(value))
            found = True


def _percent(value: float) -> str:
    return f"{value:.0f}%"


def _fraction(value: float) -> str:
    return f"{value:.0%}"


def _bytes(value: float) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


_HOST: Final = (
    ("host_cpu_percent", "cpu", _percent),
    ("host_memory_used_frac", "memory", _fraction),
    ("process_cpu_percent", "process", _percent),
    ("process_rss_bytes", "rss", _bytes),
    ("disk_free_bytes", "disk free", _bytes),
)
_OF_GPU: Final = (
    ("util_percent", _percent),
    ("memory_used_bytes", _bytes),
    ("memory_used_frac", _fraction),
    ("power_w", lambda value: f"{value:.0f} W"),
    ("temperature_c", lambda value: f"{value:.0f} °C"),
)
