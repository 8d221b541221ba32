"""CONTRIBUTING.md and the hooks before a commit name what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.release.conftest import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]


def test_pre_commit_takes_its_configuration():
    """By its own judgement."""
    command = [
        Path(sys.executable).with_name("pre-commit"),
        "validate-config",
        ROOT / ".pre-commit-config.yaml",
    ]
    assert subprocess.run(command, check=False).returncode == 0


def test_hooks_need_no_network():
    """All are tools of .venv, whose versions constraints/main.txt pins."""
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    for hook in HOOKS[0]["hooks"]:
        assert hook["language"] == "system"
        [program] = re.findall(r"^\.venv/bin/([\w-]+)", hook["entry"])
        assert Path(sys.executable).with_name(program).exists()


def test_hooks_are_what_make_lint_runs():
    """And no linter is forgotten."""
    [recipe] = re.findall(r"^lint: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    linters = set(re.findall(r"\$\(BIN\)/(\S+(?: check| format)?)", recipe))
    entries = {hook["entry"].removeprefix(".venv/bin/") for hook in HOOKS[0]["hooks"]}
    assert not [linter for linter in linters if not any(entry.startswith(linter) for entry in entries)]


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", GUIDE, re.MULTILINE)))
)
def test_each_make_target_is_one(target):
    """Make itself knows it."""
    subprocess.run(["make", "-n", "".join(target)], cwd=ROOT, check=True, capture_output=True)


def test_each_file_and_link_is_there():
    """Programs of tools/, pages, folders of tests, packages."""
    named = set(re.findall(r"\]\((?!https?:)([^)#]+)\)", GUIDE))
    named |= set(re.findall(r"`?((?:tools|tests|rldk|docs|constraints)/[\w./-]*[\w/])", GUIDE))
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]
