"""trackio with a folder of its own: it reads TRACKIO_DIR once, when it is imported."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

HOME = Path(tempfile.mkdtemp(prefix="rldk-trackio-"))
os.environ |= {"TRACKIO_DIR": str(HOME), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def home():
    """The folder of trackio's databases."""
    return HOME
