"""What a GPU can tell is told, under the contract's names; what it cannot is absent, never 0."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pynvml
import pytest

from rldk.health.gpus import Gpus
from rldk.health.resources import UNITS
from tests.health._nvml import GIB, Device, Driver, NewDriver, install, mig


@pytest.mark.parametrize("release", [Driver, NewDriver])
def test_a_gpu_tells_its_numbers(monkeypatch, release):
    """Each in its unit, whether the driver is old or has dropped what is deprecated."""
    install(monkeypatch, release(Device("GPU-a", ecc=2, reasons=0x40)))
    assert Gpus({}).sample() == {
        "gpu0_util_percent": 97,
        "gpu0_memory_used_bytes": 20 * GIB,
        "gpu0_memory_total_bytes": 80 * GIB,
        "gpu0_memory_used_frac": 0.25,
        "gpu0_power_w": 350.5,
        "gpu0_temperature_c": 61,
        "gpu0_ecc_uncorrected": 2,
        "gpu0_throttled": 1,
    }


def test_each_name_has_a_unit(monkeypatch):
    """Names and patterns of names."""
    install(monkeypatch, Driver(Device("GPU-a"), Device("GPU-b", bus="00000000:02:00.0")))
    names = {name.replace("gpu0", "gpu{i}").replace("gpu1", "gpu{i}") for name in Gpus({}).sample()}
    assert len(names) == 8
    assert names <= UNITS.keys()


def test_the_numbers_are_plain(monkeypatch):
    """Nothing of ctypes is left in them."""
    install(monkeypatch, Driver(Device("GPU-a")))
    assert {type(value) for value in Gpus({}).sample().values()} == {int, float}


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        (0x0, 0),
        (0x1, 0),  # idle
        (0x2, 0),  # the user's own clocks
        (0x4, 0),  # at its power cap, as under any load
        (0x8, 1),  # hardware slowdown
        (0x20, 1),  # heat, by software
        (0x40, 1),  # heat, by hardware
        (0x80 | 0x4, 1),  # power brake
    ],
)
def test_only_what_harms_is_throttling(monkeypatch, reasons, throttled):
    """A GPU that idles or keeps to its power cap is well."""
    install(monkeypatch, Driver(Device("GPU-a", reasons=reasons)))
    assert Gpus({}).sample()["gpu0_throttled"] == throttled


def test_what_a_card_does_not_support_is_absent(monkeypatch, caplog):
    """A consumer card has no ECC; the rest is there, and nobody complains."""
    codes = {"nvmlDeviceGetTotalEccErrors": pynvml.NVML_ERROR_NOT_SUPPORTED}
    install(monkeypatch, Driver(Device("GPU-a", codes=codes)))
    told = Gpus({}).sample()
    assert "gpu0_ecc_uncorrected" not in told
    assert len(told) == 7
    assert not caplog.records


def test_a_field_that_fails_oddly_costs_that_field_alone(monkeypatch, caplog):
    """Some drivers answer a single question with Unknown Error, for ever."""
    codes = {"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_UNKNOWN}
    install(monkeypatch, Driver(Device("GPU-a", codes=codes)))
    gpus = Gpus({})
    assert [len(gpus.sample()) for _ in range(3)] == [7, 7, 7]
    assert not caplog.records


def test_memory_that_makes_no_sense_is_absent(monkeypatch):
    """A GPU that shares the host's memory may tell no total."""
    install(monkeypatch, Driver(Device("GPU-a", used=0, total=0)))
    assert not [name for name in Gpus({}).sample() if "memory" in name]


def test_a_mig_device_tells_its_own_memory(monkeypatch):
    """Utilization and power are the whole GPU's, which is not ours alone: absent."""
    install(monkeypatch, Driver(Device("GPU-a", parts=[mig("MIG-x"), mig("MIG-y", used=5 * GIB)])))
    assert Gpus({"CUDA_VISIBLE_DEVICES": "MIG-y"}).sample() == {
        "gpu0_memory_used_bytes": 5 * GIB,
        "gpu0_memory_total_bytes": 10 * GIB,
        "gpu0_memory_used_frac": 0.5,
    }


def test_without_pynvml_nothing_is_measured_or_said(monkeypatch, caplog):
    """It is an optional extra."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus({}).sample() == {}
    assert not caplog.records


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, 999]
)
def test_a_driver_that_was_never_there_is_tried_once(monkeypatch, caplog, code):
    """Nothing is said, and no sample asks for it again."""
    driver = install(monkeypatch, Driver(Device("GPU-a")))
    driver.code = code
    gpus = Gpus({})
    assert [gpus.sample() for _ in range(3)] == [{}, {}, {}]
    assert driver.inits == 1
    assert not caplog.records


def test_a_driver_without_gpus_has_nothing_to_tell(monkeypatch, caplog):
    """As on a cluster's login node."""
    install(monkeypatch, Driver())
    assert Gpus({}).sample() == {}
    assert not caplog.records


def test_the_driver_is_let_go(monkeypatch):
    """As often as it was opened, for others in this process may use it as well."""
    driver = install(monkeypatch, Driver(Device("GPU-a")))
    pynvml.nvmlInit()  # somebody else
    gpus = Gpus({})
    gpus.sample()
    gpus.close()
    gpus.close()
    assert driver.opened == 1


def test_the_real_library_is_quiet_on_a_machine_without_a_driver():
    """With the real pynvml, in a process of its own."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has a driver")
    program = "from rldk.health.gpus import Gpus; import sys; print(Gpus().sample(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{} False\n", "")
