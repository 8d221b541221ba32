"""A bridge in a package that RLDK does not know is found by its entry points, and keeps RLDK's law."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rldk import bridge
from tests.examples.conftest import EXAMPLES, QUIET

PACKAGE = EXAMPLES / "rldk-trackio"

pytest.importorskip("trackio")
pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip has installed the package; this environment stays without it."""
    site = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        *offline,
        "--target",
        str(site),
        str(PACKAGE),
    ]
    subprocess.run(command, check=True, env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"})
    return site


@pytest.mark.real
def test_its_own_tests_pass(installed, tmp_path):
    """RLDK's suite for bridges, and what is trackio's own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    environment = os.environ | QUIET | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "19 passed" in done.stdout


@pytest.mark.real
def test_a_training_goes_there_and_back(installed, tmp_path):
    """With trackers=["trackio"]: the table of the project's database is the journal's."""
    environment = (
        os.environ | QUIET | {"PYTHONPATH": str(installed), "TRACKIO_DIR": str(tmp_path / "trackio")}
    )
    command = [sys.executable, str(EXAMPLES / "trackio_bridge.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "trackio has 32 steps, with the numbers of the journal: True" in done.stdout
    database = str(tmp_path / "trackio" / "rldk.db")
    told = subprocess.run(
        [sys.executable, "-m", "rldk", "ingest", database],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "trackio" in told.stdout


def test_without_the_package_it_is_said_how_to_install_it(run_example):
    """This environment has none of its entry points."""
    assert "trackio" not in bridge.sinks()
    done = run_example("trackio_bridge", code=1)
    assert done.said.splitlines()[-1] == "trackio_bridge.py: run: pip install ./examples/rldk-trackio"
