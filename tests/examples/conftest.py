"""Examples run as their readers run them: each in a process of its own, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
QUIET = {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
_NOT_OURS = ("WANDB", "MLFLOW", "RLDK")


class Done(NamedTuple):
    """An example that has ended: its folder, its exit code, and what it printed."""

    folder: Path
    code: int
    said: str

    @property
    def journal(self):
        """The one journal that it wrote."""
        [path] = (self.folder / "rldk").glob("*_events.jsonl")
        return path


@pytest.fixture(scope="session")
def _warm():
    command = [sys.executable, "-m", "tests.examples._warm"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=EXAMPLES.parent, env=own | QUIET, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run_example(_warm, tmp_path):
    """Run an example by its name; gives what became of it. A folder that is given is gone on with."""

    def run(name, *, folder=None, code=0, **environment):
        folder = folder or tmp_path / name
        output = tmp_path / f"{name}.txt"
        asked = {"script": str(EXAMPLES / f"{name}.py"), "arguments": [str(folder)], "folder": str(tmp_path)}
        _warm.stdin.write(json.dumps(asked | {"environment": environment, "output": str(output)}) + "\n")
        _warm.stdin.flush()
        ended = int(_warm.stdout.readline() or -1)
        done = Done(folder, ended, output.read_text() if output.exists() else "")
        assert done.code == code, done.said
        return done

    return run
