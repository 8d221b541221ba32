"""The driver's GPUs and torch's devices are told, each for itself; none of them is no finding."""

from __future__ import annotations

import pytest

from rldk.doctor import child
from rldk.doctor.probes import probe
from tests.health._nvml import Device, Driver, install


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


def test_each_gpu_of_the_driver_is_told(monkeypatch):
    """By the real pynvml, on a driver in Python: the memory in use and in all."""
    install(monkeypatch, Driver(Device("GPU-a"), Device("GPU-b", bus="00000000:02:00.0")))
    told = list(child.nvml())
    assert [(each.what, each.state) for each in told] == [("gpu0", "ok"), ("gpu1", "ok")]
    assert told[0].told == "20 of 80 GiB in use"


def test_no_gpu_is_a_note(monkeypatch):
    """Training on a CPU is nobody's fault."""
    install(monkeypatch, Driver())
    assert [(each.what, each.state) for each in child.nvml()] == [("driver", "note")]


def test_without_the_library_the_remedy_is_told(monkeypatch):
    """GPUs go unmeasured until it is installed."""
    monkeypatch.setattr(child, "find_spec", lambda _: None)
    (told,) = child.nvml()
    assert (told.state, "rldk[gpu]" in told.remedy) == ("note", True)
    assert list(child.torch()) == []


def test_torch_tells_its_devices():
    """In a process of its own, for it takes seconds to import and CUDA may hang."""
    (told,) = probe(["torch"], 120.0)
    assert (told.area, told.what) == ("torch", "torch")
    assert told.state in {"ok", "note"}
