"""What the tests of sync and verify share: a journal as training leaves it, and the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from rldk.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from click.testing import Result

ARGS = {"learning_rate": 1e-6, "beta": 0.04, "nested": {"a": [1, 2]}}


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each test of a file that imports this, copies of runs are kept below tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RLDK_LINGER_S", "0")


def record(
    folder: Path,
    steps: range,
    *,
    run_id: str = "rosy-run",
    status: str | None = "FINISHED",
    tracker_runs: Mapping[str, str] | None = None,
) -> Path:
    """Record one start of a training as the callback does, without a tracker; give the journal."""
    path = folder / f"{run_id}_events.jsonl"
    clock = ManualClock(1_763_847_600.0 + steps.start * 10)
    facts = {"args": ARGS} | ({"tracker_runs": dict(tracker_runs)} if tracker_runs else {})
    run = Run(run_id=run_id, trainer="GRPO", seed=42, git_sha="abc123", facts=facts)
    recorder = Recorder(Journal(path), run, settings=Settings(), clock=clock)
    recorder.begin(steps.start, [])
    for step in steps:
        clock.advance(1)
        logs = {
            "reward": step / 7,
            "kl": float("nan") if step == 3 else step / 100,
            "num_tokens": step * 1000,
        }
        recorder.log(step + 1, logs)
    if status is None:
        recorder.journal.close()
    else:
        recorder.end(status, steps.stop)
    return path


def rldk(*words: object) -> Result:
    """Call the command."""
    return CliRunner().invoke(app, [str(word) for word in words])
