"""One probe, in its own process: `python -m rldk.doctor.child NAME` writes what it finds, a line each."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk import bridge
from rldk.bridge import Probed
from rldk.health.gpus import Gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def nvml() -> Iterator[Probed]:
    """Which GPUs does the driver show?"""
    if find_spec("pynvml") is None:
        remedy = "pip install 'rldk[gpu]' to record them"
        yield Probed(
            what="driver",
            state="note",
            told="nvidia-ml-py is not installed: GPUs go unmeasured",
            remedy=remedy,
        )
        return
    gpus = Gpus()
    sample = gpus.sample()
    gpus.close()
    numbers = sorted({int(name[3:].partition("_")[0]) for name in sample if name.startswith("gpu")})
    if not numbers:
        yield Probed(what="driver", state="note", told="no GPU is visible")
    for number in numbers:
        total, used = (sample.get(f"gpu{number}_memory_{what}_bytes", 0) for what in ("total", "used"))
        told = f"{used / 2**30:.3g} of {total / 2**30:.3g} GiB in use"
        yield Probed(what=f"gpu{number}", state="ok", told=told)


def torch() -> Iterator[Probed]:
    """Which devices does torch see?"""
    if find_spec("torch") is None:
        return
    import torch as library  # noqa: PLC0415  # it takes seconds

    built = library.version.cuda or getattr(library.version, "hip", None)
    count = library.cuda.device_count()
    names = [library.cuda.get_device_name(number) for number in range(count)]
    if count:
        yield Probed(what="torch", state="ok", told=f"{count} devices: {', '.join(names)}")
    elif built:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"CUDA_VISIBLE_DEVICES={hidden!r}" if hidden is not None else "no driver, or none that fits"
        yield Probed(what="torch", state="note", told=f"built for {built}, and sees no device ({why})")
    else:
        yield Probed(
            what="torch", state="note", told=f"{metadata.version('torch')} is built for the CPU alone"
        )


_BESIDE: Final[dict[str, Callable[[], Iterator[Probed]]]] = {"gpu": nvml, "torch": torch}
BESIDE: Final = tuple(_BESIDE)
"""What can be asked beside trackers."""


def main(name: str) -> None:
    """Probe, and write each thing that is found at once: what comes later may hang."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is none of it
    found = _BESIDE[name]() if name in _BESIDE else _of_tracker(name)
    for each in found:
        out.write(msgspec.json.encode(each) + b"\n")


def _of_tracker(name: str) -> Iterator[Probed]:
    sink: Any = bridge.sink(name)
    if hasattr(sink, "probe"):
        yield from sink.probe()
    else:
        yield Probed(what="probe", state="note", told=f"the bridge of {name} offers none")


if __name__ == "__main__":
    main(sys.argv[1])
