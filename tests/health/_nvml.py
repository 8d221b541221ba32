"""NVIDIA's libnvidia-ml.so.1 as the real pynvml calls it: C functions that fill what they are given."""

# ruff: noqa: N802, N815  # the names are those of the C library

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field

import pynvml

GIB = 2**30


@dataclass
class Device:
    """A GPU or a MIG device: what it answers; a function in `codes` answers with that error instead."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    bus: str = "00000000:01:00.0"
    used: int = 20 * GIB
    total: int = 80 * GIB
    util: int = 97
    milliwatts: int = 350_500
    celsius: int = 61
    ecc: int = 0
    reasons: int = 0
    parts: list[Device] | None = None
    place: tuple[int, int] = (0, 0)
    codes: dict[str, int] = field(default_factory=dict)
    lost: bool = False

    def __post_init__(self):
        self.struct = pynvml.struct_c_nvmlDevice_t()


def mig(uuid, place=(0, 0), used=1 * GIB, total=10 * GIB):
    """Make a MIG device, which knows its memory and little else."""
    absent = (
        *("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEccErrors"),
        *("nvmlDeviceGetTemperature", "nvmlDeviceGetCurrentClocksThrottleReasons"),
        *("nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons"),
    )
    codes = dict.fromkeys(absent, pynvml.NVML_ERROR_NOT_SUPPORTED)
    return Device(uuid, used=used, total=total, place=place, codes=codes)


class Driver:
    """The library; a function that it lacks is one that an older driver does not have."""

    def __init__(self, *gpus):
        self.gpus = list(gpus)
        self.opened = self.inits = 0
        self.code = pynvml.NVML_SUCCESS  # what all of it answers
        self.asked = []
        self.nvmlErrorString = lambda code: f"error {code}".encode()

    def nvmlInitWithFlags(self, _flags):
        self.inits += 1
        if self.code == pynvml.NVML_SUCCESS:
            self.opened += 1
        return self.code

    def nvmlShutdown(self):
        if not self.opened:
            return pynvml.NVML_ERROR_UNINITIALIZED
        self.opened -= 1
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetCount_v2(self, count):
        return self._filled(count, len(self.gpus))

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        return self._handed("nvmlDeviceGetHandleByIndex_v2", self.gpus[index.value], device)

    def nvmlDeviceGetHandleByUUID(self, uuid, device):
        known = {each.uuid.encode(): each for gpu in self.gpus for each in (gpu, *(gpu.parts or ()))}
        if uuid.value not in known:
            return pynvml.NVML_ERROR_NOT_FOUND
        return self._handed("nvmlDeviceGetHandleByUUID", known[uuid.value], device)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu, index, device):
        parts = self._of(gpu).parts or []
        if index.value >= len(parts):
            return pynvml.NVML_ERROR_NOT_FOUND
        return self._handed("nvmlDeviceGetMigDeviceHandleByIndex", parts[index.value], device)

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu, count):
        return self._told("nvmlDeviceGetMaxMigDeviceCount", gpu, count, 7)

    def nvmlDeviceGetMigMode(self, gpu, current, pending):
        is_on = int(self._of(gpu).parts is not None)
        pending._obj.value = is_on
        return self._told("nvmlDeviceGetMigMode", gpu, current, is_on)

    def nvmlDeviceGetGpuInstanceId(self, part, number):
        return self._told("nvmlDeviceGetGpuInstanceId", part, number, self._of(part).place[0])

    def nvmlDeviceGetComputeInstanceId(self, part, number):
        return self._told("nvmlDeviceGetComputeInstanceId", part, number, self._of(part).place[1])

    def nvmlDeviceGetUUID(self, device, buffer, _size):
        buffer.value = self._of(device).uuid.encode()
        return self._code("nvmlDeviceGetUUID", self._of(device))

    def nvmlDeviceGetName(self, device, buffer, _size):
        buffer.value = self._of(device).name.encode()
        return self._code("nvmlDeviceGetName", self._of(device))

    def nvmlDeviceGetPciInfo_v3(self, device, info):
        info._obj.busId = self._of(device).bus.encode()
        return self._code("nvmlDeviceGetPciInfo_v3", self._of(device))

    def nvmlDeviceGetUtilizationRates(self, device, rates):
        rates._obj.gpu = self._of(device).util
        return self._code("nvmlDeviceGetUtilizationRates", self._of(device))

    def nvmlDeviceGetMemoryInfo(self, device, memory):
        of = self._of(device)
        memory._obj.total, memory._obj.used, memory._obj.free = of.total, of.used, of.total - of.used
        return self._code("nvmlDeviceGetMemoryInfo", of)

    def nvmlDeviceGetPowerUsage(self, device, power):
        return self._told("nvmlDeviceGetPowerUsage", device, power, self._of(device).milliwatts)

    def nvmlDeviceGetTemperature(self, device, sensor, celsius):
        assert sensor.value == pynvml.NVML_TEMPERATURE_GPU
        return self._told("nvmlDeviceGetTemperature", device, celsius, self._of(device).celsius)

    def nvmlDeviceGetTotalEccErrors(self, device, kind, since, count):
        assert (kind.value, since.value) == (1, 0)  # uncorrected, volatile
        return self._told("nvmlDeviceGetTotalEccErrors", device, count, self._of(device).ecc)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device, reasons):
        name = "nvmlDeviceGetCurrentClocksThrottleReasons"
        return self._told(name, device, reasons, self._of(device).reasons)

    def _of(self, handle):
        where = ctypes.addressof(handle.contents)
        every = (each for gpu in self.gpus for each in (gpu, *(gpu.parts or ())))
        return next(each for each in every if ctypes.addressof(each.struct) == where)

    def _code(self, name, device):
        self.asked.append((name, device.uuid))
        if not self.opened:
            return pynvml.NVML_ERROR_UNINITIALIZED
        if self.code:
            return self.code
        return pynvml.NVML_ERROR_GPU_IS_LOST if device.lost else device.codes.get(name, 0)

    def _told(self, name, handle, place, value):
        place._obj.value = value
        return self._code(name, self._of(handle))

    def _handed(self, name, device, place):
        place._obj.contents = device.struct
        return self._code(name, device)

    def _filled(self, place, value):
        place._obj.value = value
        return self.code if self.opened else pynvml.NVML_ERROR_UNINITIALIZED


class NewDriver(Driver):
    """A driver that has the functions which take the place of deprecated ones, and no longer those."""

    nvmlDeviceGetTemperature = nvmlDeviceGetCurrentClocksThrottleReasons = property()

    def nvmlDeviceGetTemperatureV(self, device, asked):
        asked._obj.temperature = self._of(device).celsius
        return self._code("nvmlDeviceGetTemperatureV", self._of(device))

    def nvmlDeviceGetCurrentClocksEventReasons(self, device, reasons):
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        return self._told(name, device, reasons, self._of(device).reasons)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def install(monkeypatch, driver):
    """Have pynvml call this library, with no GPU hidden and no torch that uses one."""
    monkeypatch.setattr(pynvml, "nvmlLib", driver)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return driver
