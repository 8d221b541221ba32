"""A GPU or a driver that is lost in mid-run is told of once, and found again."""

from __future__ import annotations

import logging

import pynvml
import pytest

from rldk.health.gpus import Gpus
from tests.health._nvml import Clock, Device, Driver, install


@pytest.fixture
def driver(monkeypatch):
    """Two GPUs."""
    return install(monkeypatch, Driver(Device("GPU-a"), Device("GPU-b", bus="00000000:02:00.0")))


def seen(told):
    """Which GPUs a sample tells of."""
    return {name.partition("_")[0] for name in told}


def test_one_of_two_is_lost(driver, caplog):
    """The other keeps its index and its numbers; a minute later the lost one is looked for again."""
    clock = Clock()
    gpus = Gpus({}, clock)
    assert seen(gpus.sample()) == {"gpu0", "gpu1"}
    driver.gpus[0].lost = True
    assert [seen(gpus.sample()) for _ in range(3)] == [{"gpu1"}] * 3
    clock.now += 61
    assert seen(gpus.sample()) == {"gpu1"}
    assert [record.getMessage() for record in caplog.records] == [
        "GPU 0 can no longer be measured: GPU is lost; it is looked for again every 60 s"
    ]
    driver.gpus[0].lost = False
    assert seen(gpus.sample()) == {"gpu1"}
    clock.now += 61
    with caplog.at_level(logging.INFO):
        assert seen(gpus.sample()) == {"gpu0", "gpu1"}
    assert caplog.records[-1].getMessage() == "GPU 0 is measured again"
    assert driver.opened == 1


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_the_driver_is_lost(driver, caplog, code):
    """Nothing is measured until it is back, and each GPU is told of once."""
    clock = Clock()
    gpus = Gpus({}, clock)
    gpus.sample()
    driver.code = code
    for _ in range(5):
        assert gpus.sample() == {}
        clock.now += 61
    told = "".join(record.getMessage() for record in caplog.records)
    assert told.count("can no longer be measured") == len(caplog.records) <= 2
    driver.code = pynvml.NVML_SUCCESS
    assert seen(gpus.sample()) == {"gpu0", "gpu1"}
    assert driver.opened == 1


def test_somebody_else_shut_the_driver_down(driver, caplog):
    """It is opened again, after the usual minute."""
    clock = Clock()
    gpus = Gpus({}, clock)
    gpus.sample()
    driver.opened = 0
    assert gpus.sample() == {}
    assert [record.getMessage() for record in caplog.records] == [
        "GPU 0, 1 can no longer be measured: Uninitialized; it is looked for again every 60 s"
    ]
    clock.now += 61
    assert seen(gpus.sample()) == {"gpu0", "gpu1"}


def test_a_gpu_that_comes_back_is_told_of_when_it_is_lost_again(driver, caplog):
    """A second loss is news."""
    clock = Clock()
    gpus = Gpus({}, clock)
    gpus.sample()
    for _ in range(2):
        driver.gpus[1].lost = True
        gpus.sample()
        driver.gpus[1].lost = False
        clock.now += 61
        gpus.sample()
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 2
