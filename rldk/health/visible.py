"""Which of the machine's GPUs does this process see, and in which order? Pure."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NUMBER: Final = re.compile(r"\s*([+-]?\d+)")  # as C's strtol, which CUDA uses


class Instance(NamedTuple):
    """A part of a GPU in MIG mode: its UUID, and the name that drivers before R470 gave it."""

    uuid: str
    old_name: str = ""


class Gpu(NamedTuple):
    """A GPU: its UUID, its model, and its parts, which are None unless it is in MIG mode."""

    uuid: str
    model: str = ""
    instances: tuple[Instance, ...] | None = None


def visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[str]:
    """Work out what CUDA shows this process.

    Args:
        gpus: The machine's GPUs in the order of their PCI buses.
        environ: Where `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` stand.

    Returns:
        The UUIDs of GPUs, or the one of a MIG device, each at the index by which the process knows it.
        Empty where CUDA would number GPUs of different models from the fastest to the slowest: what it
        finds fast cannot be known without asking it.

    https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html
    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/ (Device Enumeration)
    """
    asked = environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None and asked.startswith("MIG-"):
        instances = [instance for gpu in gpus for instance in gpu.instances or ()]
        chosen = _named(asked, "MIG-", [(each.uuid, each.old_name) for each in instances])
        return [instances[index].uuid for index in chosen[:1]]  # CUDA shows no more than one
    if asked is not None and asked.startswith("GPU-"):
        return _devices([gpus[index] for index in _named(asked, "GPU-", [(gpu.uuid,) for gpu in gpus])])
    is_by_bus = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.model for gpu in gpus}) == 1
    if not is_by_bus:
        return []
    return _devices(gpus if asked is None else _numbered(asked, gpus))


def _devices(gpus: Iterable[Gpu]) -> list[str]:
    """What CUDA makes of these GPUs: where one has MIG devices, the first of them and nothing else."""
    seen = list(gpus)
    parts = [instance.uuid for gpu in seen for instance in gpu.instances or ()]
    return parts[:1] or [gpu.uuid for gpu in seen if gpu.instances is None]


def _named(asked: str, prefix: str, known: Sequence[tuple[str, ...]]) -> list[int]:
    """Indices of those whose names begin so, up to the first text that is not the beginning of just one."""
    texts = list(itertools.takewhile(lambda text: text.startswith(prefix), asked.split(",")))
    found = ([i for i, names in enumerate(known) if _begins(names, text)] for text in texts)
    return _once([matches[0] for matches in itertools.takewhile(lambda each: len(each) == 1, found)])


def _begins(names: tuple[str, ...], text: str) -> bool:
    return any(name.startswith(text) for name in names)


def _numbered(asked: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Those with these indices, up to the first text that is none, such as -1 or a GPU that is not there."""
    numbers = [_NUMBER.match(text) for text in asked.split(",")]
    indices = [int(number[1]) if number else -1 for number in numbers]
    chosen = _once(list(itertools.takewhile(lambda index: index >= 0, indices)))
    return [gpus[index] for index in itertools.takewhile(lambda index: index < len(gpus), chosen)]


def _once(indices: list[int]) -> list[int]:
    """The same; none at all where one is there twice, as CUDA has it."""
    return indices if len(set(indices)) == len(indices) else []
