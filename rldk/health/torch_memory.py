"""What does torch hold of the GPUs, where the training has begun to use them by itself?"""

from __future__ import annotations

import sys
from typing import Any


def cuda() -> Any | None:  # noqa: ANN401  # torch is not typed here
    """Give `torch.cuda` where it is in use; nothing is imported or begun for it."""
    module = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(module, "is_initialized", None)  # torch may be half imported, on another thread
    return module if is_initialized is not None and is_initialized() else None


def uuids() -> list[str]:
    """The GPUs that this process sees, in its own order; empty where torch cannot tell.

    Asked of CUDA itself, the order is right whatever CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER said
    when it began.
    """
    module = cuda()
    if module is None:
        return []
    try:
        all_properties = [module.get_device_properties(i) for i in range(module.device_count())]
    except (RuntimeError, AssertionError):  # CUDA's sticky errors; torch's own checks
        return []
    found = [getattr(properties, "uuid", None) for properties in all_properties]
    return [f"GPU-{uuid}" for uuid in found] if all(found) else []


def sample() -> dict[str, int | float]:
    """Measure `gpu{i}_torch_allocated_bytes` and `gpu{i}_torch_reserved_bytes` of each visible GPU."""
    module = cuda()
    found: dict[str, int | float] = {}
    if module is None:
        return found
    try:
        for i in range(module.device_count()):
            told = module.memory_stats(i)
            for kind in ("allocated", "reserved"):
                if f"{kind}_bytes.all.current" in told:
                    found[f"gpu{i}_torch_{kind}_bytes"] = told[f"{kind}_bytes.all.current"]
    except (RuntimeError, AssertionError):
        return found
    return found
