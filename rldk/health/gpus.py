"""How are the GPUs that this process sees? Asked of NVIDIA's driver, through pynvml."""

from __future__ import annotations

import importlib
import math
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rldk.health import torch_memory
from rldk.health.visible import Gpu, Instance, visible
from rldk.redact import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Sample = dict[str, int | float]

_logger = logger(__name__)

_LOOK_AGAIN_S: Final = 60.0
_GPU_GONE: Final = ("GPU_IS_LOST", "RESET_REQUIRED", "GPU_NOT_FOUND")
_DRIVER_GONE: Final = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH")


class Gpus:
    """Measures the visible GPUs, named by the index that the process itself sees.

    Nothing is said, and nothing measured, where there is no GPU, no driver, or no pynvml. A GPU that is
    lost in mid-run is told of once, and looked for again every minute. CUDA is neither begun nor asked,
    unless the training has begun it: then it is asked once for the order of the GPUs.

    Args:
        environ: Where CUDA's variables stand.
        clock: Seconds that never step back.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._nvml: Any = None
        self._is_open = False
        self._uuids: list[str] = []
        self._handles: dict[int, Any] = {}
        self._lost: set[int] = set()
        self._look_at = -math.inf
        self._has_asked_cuda = False

    def sample(self) -> Sample:
        """Measure once what each GPU can tell."""
        if not self._has_asked_cuda and torch_memory.cuda() is not None:
            self._has_asked_cuda, self._look_at = True, -math.inf
            self._uuids = []
        if self._clock() >= self._look_at:
            self._look()
        found: Sample = {}
        for index in list(self._handles):
            if index in self._handles:  # or the driver was lost with a GPU before it
                found |= self._measured(index)
        return found | torch_memory.sample()

    def close(self) -> None:
        """Let go of the driver; the next sample would open it again."""
        self._handles = {}
        if self._is_open:
            self._is_open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._look_at = -math.inf

    def _look(self) -> None:
        """Open the driver, anew where it is open, and take hold of each visible GPU."""
        self.close()
        self._look_at = math.inf
        self._nvml = self._nvml or _library()
        if self._nvml is None:
            return
        try:
            self._nvml.nvmlInit()
            self._is_open = True
            self._uuids = self._uuids or self._visible()
        except self._nvml.NVMLError as error:
            if self._uuids or self._lost:  # it has been there
                self._look_at = self._clock() + _LOOK_AGAIN_S
            _logger.debug("no GPU is measured: %s", error)
            return
        for index, uuid in enumerate(self._uuids):
            self._take(index, uuid)

    def _take(self, index: int, uuid: str) -> None:
        try:
            self._handles[index] = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        except self._nvml.NVMLError as error:
            self._lose([index], error)

    def _visible(self) -> list[str]:
        gpus = _all_gpus(self._nvml)
        whole = {gpu.uuid for gpu in gpus if gpu.instances is None}
        told = torch_memory.uuids()
        return told if told and whole.issuperset(told) else visible(gpus, self._environ)

    def _measured(self, index: int) -> Sample:
        nvml, handle = self._nvml, self._handles[index]
        found: Sample = {}
        failures = []
        for field in _FIELDS:
            try:
                found |= field(nvml, handle)
            except nvml.NVMLError as error:  # not supported here, or worse
                failures.append(error)
                if _is_one_of(nvml, error, _DRIVER_GONE):
                    self._lose(list(self._handles), error)
                    return {}
                if _is_one_of(nvml, error, _GPU_GONE):
                    break
        is_gone = failures and _is_one_of(nvml, failures[-1], _GPU_GONE)
        if is_gone or (not found and any(_is_one_of(nvml, error, ("UNKNOWN",)) for error in failures)):
            self._lose([index], failures[-1])
            return {}
        if found:
            self._find_again(index)
        return {f"gpu{index}_{name}": value for name, value in found.items()}

    def _lose(self, indices: list[int], error: Exception) -> None:
        self._look_at = min(self._look_at, self._clock() + _LOOK_AGAIN_S)
        for index in indices:
            self._handles.pop(index, None)
        if news := [index for index in indices if index not in self._lost]:
            names = ", ".join(map(str, news))
            again = f"looked for again every {_LOOK_AGAIN_S:.0f} s"
            _logger.warning("GPU %s can no longer be measured: %s; it is %s", names, error, again)
        self._lost.update(indices)

    def _find_again(self, index: int) -> None:
        if index in self._lost:
            self._lost.discard(index)
            _logger.info("GPU %d is measured again", index)


def _library() -> Any | None:  # noqa: ANN401  # a module
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _is_one_of(nvml: Any, error: Any, names: tuple[str, ...]) -> bool:  # noqa: ANN401  # not typed
    return error.value in {getattr(nvml, f"NVML_ERROR_{name}", None) for name in names}


def _all_gpus(nvml: Any) -> list[Gpu]:  # noqa: ANN401
    """The machine's GPUs in the order of their PCI buses, without those that this process may not open.

    CUDA does not count those either, such as the ones that Slurm gave to another job.
    """
    gpus: list[tuple[str, Gpu]] = []
    for i in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(i)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            gpu = Gpu(uuid, nvml.nvmlDeviceGetName(handle), _instances(nvml, handle, uuid))
            gpus.append((_text(nvml.nvmlDeviceGetPciInfo(handle).busId), gpu))
    return [gpu for _, gpu in sorted(gpus)]


def _instances(nvml: Any, gpu: Any, uuid: str) -> tuple[Instance, ...] | None:  # noqa: ANN401
    """The GPU's MIG devices; None where it is not in MIG mode, or knows none."""
    try:
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)
    except nvml.NVMLError:
        return None
    found = []
    for i in range(most):
        with suppress(nvml.NVMLError):  # not every place is taken
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i)
            place = f"{nvml.nvmlDeviceGetGpuInstanceId(part)}/{nvml.nvmlDeviceGetComputeInstanceId(part)}"
            found.append(Instance(nvml.nvmlDeviceGetUUID(part), f"MIG-{uuid}/{place}"))
    return tuple(found)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _utilization(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    return {"util_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}


def _memory(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    """Memory in use, with what the driver keeps for itself: what is not used is free to be allocated."""
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    if not 0 <= memory.used <= memory.total or not memory.total:
        return {}
    frac = round(memory.used / memory.total, 6)
    return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total, "memory_used_frac": frac}


def _power(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    return {"power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _temperature(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    asked = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")  # CUDA 14 drops the second
    return {"temperature_c": _first(nvml, asked, handle, nvml.NVML_TEMPERATURE_GPU)}


def _ecc(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    """Memory errors that could not be corrected since the driver was loaded."""
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    return {"ecc_uncorrected": nvml.nvmlDeviceGetTotalEccErrors(handle, kind, since)}


def _throttling(nvml: Any, handle: Any) -> Sample:  # noqa: ANN401
    """Whether heat or the hardware slows it down; that it idles, or keeps to its power cap, is usual."""
    asked = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    harm = (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    )
    return {"throttled": int(bool(_first(nvml, asked, handle) & harm))}


_FIELDS: Final = (_utilization, _memory, _power, _temperature, _ecc, _throttling)


def _first(nvml: Any, names: tuple[str, str], *args: Any) -> Any:  # noqa: ANN401
    """Call the newer of two functions, or the older where pynvml or the driver does not know that."""
    newer = getattr(nvml, names[0], None)
    if newer is not None:
        with suppress(nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
            return newer(*args)
    return getattr(nvml, names[1])(*args)
