"""What the tests share: what real trainers logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TRAINERS = ("PPO", "GRPO", "RLOO", "DPO", "KTO", "Reward", "SFT", "OnlineDPO")
FOLDER = Path(__file__).parents[1] / "data" / "recordings"


class Recording(NamedTuple):
    """The logs of one run, with who made them."""

    name: str
    trl: str
    trainer: str
    lines: list[dict[str, Any]]

    @property
    def logs(self):
        """What each on_log received."""
        return [line["logs"] for line in self.lines]


def read(path):
    """Read a recording; its name tells TRL's version and the trainer."""
    trl, trainer, *_ = path.stem.split("_")
    short_name = next(name for name in TRAINERS if name.lower() == trainer)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return Recording(path.stem, trl, short_name, lines)


RECORDINGS = [read(path) for path in sorted(FOLDER.glob("*.jsonl"))]


def pytest_generate_tests(metafunc):
    """A test that asks for a recording runs on each."""
    if "recording" in metafunc.fixturenames:
        metafunc.parametrize("recording", RECORDINGS, ids=[r.name for r in RECORDINGS])


@pytest.fixture
def recordings():
    """All recordings."""
    return RECORDINGS


@pytest.fixture
def logs_of():
    """The logs of one recording, by its name."""
    return {recording.name: recording.logs for recording in RECORDINGS}.__getitem__
