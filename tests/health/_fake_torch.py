"""torch with a CUDA that it has begun to use: the functions that are asked, by their real names."""

from __future__ import annotations

from types import SimpleNamespace


def torch_on(*uuids, allocated=3, reserved=5, is_initialized=True, error=None):
    """Make it; `uuids` are without their `GPU-`, as torch shows them."""

    def asked(answer):
        def ask(*_):
            assert is_initialized, "CUDA would be begun"
            if error:
                raise error
            return answer(*_)

        return ask

    stats = {"allocated_bytes.all.current": allocated, "reserved_bytes.all.current": reserved}
    cuda = SimpleNamespace(
        is_initialized=lambda: is_initialized,
        device_count=asked(lambda: len(uuids)),
        get_device_properties=asked(lambda index: SimpleNamespace(uuid=uuids[index])),
        memory_stats=asked(lambda index: stats if 0 <= index < len(uuids) else {}),
    )
    return SimpleNamespace(cuda=cuda)
