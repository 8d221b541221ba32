"""Importing RLDK costs nothing: no heavy library comes with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "trl",
    "pandas",
    "numpy",
    "mlflow",
    "wandb",
    "matplotlib",
    "dask",
    "pyarrow",
}
HEAVY |= {"hypothesis", "pytest", "fsspec"}


def loaded_by(statement):
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rldk", "rldk.bridge", "rldk.recorder", "rldk.cli", "rldk.testing"])
def test_nothing_heavy_is_loaded(module):
    """The core and the command line start without them."""
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_the_bridges_load_without_their_trackers():
    """Finding the bridges imports neither MLflow nor W&B."""
    loaded = loaded_by("from rldk import bridge; bridge.sinks(); bridge.adapters()")
    assert loaded & {"mlflow", "wandb", "torch", "transformers"} == set()
    assert {"rldk_mlflow", "rldk_wandb"} <= loaded
