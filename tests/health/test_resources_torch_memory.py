"""torch's own memory is told where the training uses CUDA; for this, nothing is imported or begun."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from rldk.health import torch_memory
from rldk.health.gpus import Gpus
from tests.health._fake_torch import torch_on


def test_what_torch_holds_is_told_for_each_gpu_that_it_sees(monkeypatch):
    """Even where the driver tells nothing."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "torch", torch_on("a", "b", allocated=7, reserved=9))
    assert Gpus({}).sample() == {
        "gpu0_torch_allocated_bytes": 7,
        "gpu0_torch_reserved_bytes": 9,
        "gpu1_torch_allocated_bytes": 7,
        "gpu1_torch_reserved_bytes": 9,
    }


def test_cuda_that_the_training_has_not_begun_is_left_alone(monkeypatch):
    """To ask it anything would begin it, and a fork could not use it then."""
    monkeypatch.setitem(sys.modules, "torch", torch_on("a", is_initialized=False))
    assert torch_memory.sample() == {}
    assert torch_memory.uuids() == []


@pytest.mark.parametrize("torch", [None, object()])
def test_a_torch_that_is_missing_or_half_imported_is_none(monkeypatch, torch):
    """Another thread may be importing it."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert torch_memory.sample() == {}


def test_a_broken_cuda_costs_these_numbers_alone(monkeypatch):
    """After an error on the device each call may raise."""
    monkeypatch.setitem(sys.modules, "torch", torch_on("a", error=RuntimeError("device-side assert")))
    assert torch_memory.sample() == {}
    assert torch_memory.uuids() == []


def test_real_torch_has_what_is_asked_and_is_not_begun():
    """The double's functions and keys are torch's own."""
    import torch

    for name, double in vars(torch_on("a").cuda).items():
        assert callable(getattr(torch.cuda, name))
        assert callable(double)
    documented = inspect.getdoc(torch.cuda.memory_stats)
    for kind in ("allocated", "reserved"):
        assert f'"{kind}_bytes.{{all,large_pool,small_pool}}.{{current,' in documented
    assert torch_memory.sample() == {}
    assert not torch.cuda.is_initialized()


def test_torch_is_not_imported():
    """Nor is pynvml, until the first sample."""
    program = """if True:
        import sys
        from rldk.health.resources import Sampler
        sampler = Sampler(print)
        print("pynvml" in sys.modules)
        sampler.sample()
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
