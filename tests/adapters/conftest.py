"""What the tests of the adapters share: samples of every kind of file, and a look at the events."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def told():
    """Step and numbers of the metrics events, in order."""

    def told(events):
        return [(event.step, event.metrics) for event in events if event.kind == "metrics"]

    return told


@pytest.fixture
def sample(tmp_path):
    """Copy a sample of data/ to a place of its own, by the name that it is to have there."""

    def sample(name, path=None):
        target = tmp_path / (path or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / name, target)
        return target

    return sample
