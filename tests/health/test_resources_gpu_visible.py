"""A GPU's index in a name is the one by which the process itself knows it."""

from __future__ import annotations

import sys

import pynvml
import pytest

from rldk.health.gpus import Gpus
from rldk.health.visible import Gpu, Instance, visible
from tests.health._fake_torch import torch_on
from tests.health._nvml import GIB, Device, Driver, install, mig

ALIKE = [Gpu("GPU-aa11"), Gpu("GPU-ab22"), Gpu("GPU-cc33")]
PARTS = (Instance("MIG-aa", "MIG-GPU-ab22/1/0"), Instance("MIG-ab", "MIG-GPU-ab22/2/0"))
MIXED = [Gpu("GPU-aa11"), Gpu("GPU-ab22", instances=PARTS), Gpu("GPU-cc33", instances=())]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (None, "aa11 ab22 cc33"),
        ("0,1,2", "aa11 ab22 cc33"),
        ("2,0", "cc33 aa11"),
        (" 1 , 2", "ab22 cc33"),
        ("1", "ab22"),
        ("", ""),
        ("-1", ""),
        ("0,-1,1", "aa11"),
        ("7", ""),
        ("1,7,0", "ab22"),
        ("0,1,0", ""),
        ("1gpu,2", "ab22 cc33"),
        ("none", ""),
        ("NoDevFiles", ""),
        ("GPU-cc33,GPU-aa11", "cc33 aa11"),
        ("GPU-c", "cc33"),
        ("GPU-a", ""),  # which of the two?
        ("GPU-ab,GPU-zz,GPU-cc", "ab22"),
        ("GPU-cc,GPU-cc33", ""),
        ("GPU-cc,0", "cc33"),
        ("MIG-aa", ""),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(asked, seen):
    """Indices, UUIDs and their beginnings; what follows an unknown one is not seen, a double hides all."""
    environ = {} if asked is None else {"CUDA_VISIBLE_DEVICES": asked}
    assert visible(ALIKE, environ) == [f"GPU-{name}" for name in seen.split()]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("MIG-ab", ["MIG-ab"]),
        ("MIG-a", []),
        ("MIG-ab,MIG-aa", ["MIG-ab"]),
        ("MIG-GPU-ab22/2/0", ["MIG-ab"]),
        (None, ["MIG-aa"]),
        ("0", ["GPU-aa11"]),
        ("1", ["MIG-aa"]),
        ("0,1", ["MIG-aa"]),
        ("2", []),
        ("GPU-ab", ["MIG-aa"]),
    ],
)
def test_of_mig_devices_cuda_shows_one(asked, seen):
    """The first that is asked for, beside no whole GPU; a GPU in MIG mode without any cannot be used."""
    environ = {} if asked is None else {"CUDA_VISIBLE_DEVICES": asked}
    assert visible(MIXED, environ) == seen


def test_different_models_are_numbered_by_their_bus_only_where_cuda_does_so():
    """Else CUDA begins with the one that it finds the fastest, and a wrong index would be worse than none."""
    models = [Gpu("GPU-a", "T4"), Gpu("GPU-b", "H100")]
    assert visible(models, {"CUDA_VISIBLE_DEVICES": "1"}) == []
    assert visible(models, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == []
    assert visible(models, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == ["GPU-a", "GPU-b"]
    assert visible(models, {"CUDA_VISIBLE_DEVICES": "GPU-b"}) == ["GPU-b"]


def gpu(number, **more):
    """One that can be told from the others by its use, 10 times its number."""
    return Device(f"GPU-{number}", bus=f"00000000:{number:02X}:00.0", util=10 * number, **more)


def uses(told):
    """The use of each GPU by its index."""
    return {name[: -len("_util_percent")]: use for name, use in told.items() if name.endswith("util_percent")}


def test_the_driver_is_asked_for_the_gpus_that_are_seen(monkeypatch):
    """And for no other, such as one that another job uses."""
    driver = install(monkeypatch, Driver(gpu(1), gpu(2), gpu(3)))
    gpus = Gpus({"CUDA_VISIBLE_DEVICES": "2,0"})
    gpus.sample()
    driver.asked.clear()
    assert uses(gpus.sample()) == {"gpu0": 30, "gpu1": 10}
    assert {uuid for _, uuid in driver.asked} == {"GPU-1", "GPU-3"}


def test_gpus_are_numbered_along_their_buses(monkeypatch):
    """Whatever the order in which the driver lists them."""
    install(monkeypatch, Driver(gpu(10), gpu(2)))
    assert uses(Gpus({}).sample()) == {"gpu0": 20, "gpu1": 100}


def test_a_gpu_that_may_not_be_opened_does_not_count(monkeypatch):
    """Slurm's control group hides those of other jobs, and CUDA numbers the rest."""
    hidden = {"nvmlDeviceGetHandleByIndex_v2": pynvml.NVML_ERROR_NO_PERMISSION}
    install(monkeypatch, Driver(gpu(1, codes=hidden), gpu(2)))
    assert uses(Gpus({"CUDA_VISIBLE_DEVICES": "0"}).sample()) == {"gpu0": 20}


def test_mig_devices_are_found_by_either_name(monkeypatch):
    """The UUID, or the name that older drivers gave."""
    parts = [mig("MIG-x", (1, 0)), mig("MIG-y", (2, 0), used=7 * GIB)]
    install(monkeypatch, Driver(gpu(1), gpu(2, parts=parts)))
    for name in ("MIG-y", "MIG-GPU-2/2/0"):
        told = Gpus({"CUDA_VISIBLE_DEVICES": name}).sample()
        assert told["gpu0_memory_used_bytes"] == 7 * GIB


def test_where_torch_uses_cuda_its_order_counts(monkeypatch):
    """It is asked of CUDA itself, however the variables stand by now."""
    install(monkeypatch, Driver(gpu(1), gpu(2, name="NVIDIA A10"), gpu(3)))
    gpus = Gpus({})
    assert uses(gpus.sample()) == {}
    monkeypatch.setitem(sys.modules, "torch", torch_on("2", "1"))
    assert uses(gpus.sample()) == {"gpu0": 20, "gpu1": 10}
