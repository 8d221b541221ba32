"""A run whose process is killed again and again, at any moment, is whole in the end, and nothing is twice.

RLDK_KILLS says how often (20), RLDK_SEED with which chances.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from rldk.journal import SUFFIX
from tests.faults._life import RUN_ID, events_of
from tests.faults.conftest import left, synced

KILLS = int(os.environ.get("RLDK_KILLS", "20"))
SEED = int(os.environ.get("RLDK_SEED", random.randrange(10**6)))  # noqa: S311  # it is printed

pytestmark = [pytest.mark.real, pytest.mark.timeout(180 + 6 * KILLS)]


@pytest.mark.usefixtures("wandb_offline")
def test_killed_again_and_again(empty_mlflow_db, tmp_path, monkeypatch, tell, request):
    """MLflow and W&B hold what the journal holds, and that is all that was logged."""
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.faults._zygote",
        str(tmp_path),
        str(KILLS),
        str(SEED),
    ]
    sys.stdout.write(f"{KILLS} kills, RLDK_SEED={SEED}\n")
    began = time.monotonic()
    with (tmp_path / "stderr.txt").open("wb") as errors:
        code = subprocess.run(command, stderr=errors, stdout=errors, check=False).returncode
    took_s = time.monotonic() - began
    sys.stdout.write((tmp_path / "lives.txt").read_text())
    sys.stdout.write((tmp_path / "stderr.txt").read_text()[-20_000:])
    assert code == 0
    path = tmp_path / "rldk" / f"{RUN_ID}{SUFFIX}"
    steps = [event.step for event in events_of(path) if event.kind == "metrics"]
    said = [int(line) for line in (tmp_path / "said.txt").read_text().split()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(set(said)) == len(said)
    assert set(said) <= set(steps)
    found = {}
    for tracker in ("mlflow", "wandb"):
        report = left(path, tracker)
        found[tracker] = synced(path, tracker)
        tell(report, took_s, found[tracker], fault=f"{KILLS} kills, seed {SEED}, {len(steps)} steps")
    assert not any(found.values()), found
