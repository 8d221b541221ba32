"""What the contract's tests share: the repository's scripts, and where the libraries' sources lie."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load(name):
    """Load a script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def trl_metrics():
    """The reader of TRL's source."""
    return load("trl_metrics")


@pytest.fixture(scope="session")
def metrics_page():
    """The writer of docs/metrics.md."""
    return load("metrics_page")


@pytest.fixture(scope="session")
def trl(trl_metrics):
    """Folder and version of the installed TRL, which is not imported."""
    if importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed")
    return trl_metrics.installed("trl"), metadata.version("trl")


@pytest.fixture(scope="session")
def transformers(trl_metrics):
    """Folder of the installed transformers."""
    return trl_metrics.installed("transformers")
