"""The wheel holds what a user needs and no more; the sdist all that its tests need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

from tests.release.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_SHIPPED = {".ci/run"}
"""Of the repository's files, those that say how it is kept and mean nothing outside."""


def in_tree(*folders):
    """The package files of the tree, as the wheel names them."""
    files = (file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file())
    return {
        file.relative_to(ROOT).as_posix().removeprefix("bridges/")
        for file in files
        if "__pycache__" not in file.parts
    }


def test_the_wheel_is_the_packages(built):
    """Every file of them, data and type marker too, and beside them the metadata alone."""
    names = set(ZipFile(built.wheel).namelist())
    info = {name for name in names if name.startswith("rldk-")}
    assert names - info == in_tree("rldk", "bridges")
    assert {"rldk/py.typed", "rldk/catalog.toml", "rldk/report/page.css"} <= names
    assert {"rldk_mlflow/sink.py", "rldk_wandb/sink.py"} <= names
    kinds = {name.partition("/")[2] for name in info}
    assert kinds == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_sdist_holds_what_its_tests_need(built):
    """All that git keeps, but for what only the repository needs."""
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:  # an unpacked sdist is no repository
        kept = {name for name in listing.stdout.splitlines() if (ROOT / name).exists()}
        assert kept - names == NOT_SHIPPED
    needed = {
        *("tests/conftest.py", "tests/data/recordings/1.16.0_grpo.jsonl", "docs/metrics.md"),
        *("docker/compose.yaml", "docker/.env.example", ".dockerignore", "constraints/main.txt"),
        *("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "examples/rules.toml"),
    }
    assert needed <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", "/.env"))]


def test_the_checkers_have_nothing_to_say(built):
    """twine, to whom the README must render, and check-wheel-contents."""
    programs = Path(sys.executable).parent
    strict = [programs / "twine", "check", "--strict", built.wheel, built.sdist]
    # W009: the bridges are packages of their own beside rldk, so that the core cannot import them by accident
    contents = [programs / "check-wheel-contents", "--ignore", "W009", built.wheel]
    for command in (strict, contents):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_metadata_is_whole(built):
    """What an index shows, and what pip goes by."""
    with ZipFile(built.wheel) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith("METADATA")]
        told = message_from_string(wheel.read(name).decode())
    assert (told["Name"], told["License-Expression"]) == ("rldk", "Apache-2.0")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Summary"] == PROJECT["description"]
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert set(told.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert "Typing :: Typed" in told.get_all("Classifier")
    core = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert len(core) == len(PROJECT["dependencies"])
