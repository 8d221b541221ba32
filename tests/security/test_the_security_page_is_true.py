"""What docs/security.md promises is kept by tests, each promise by ones that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| (?!promise|where|who|---)(.+?) \|(?: .*? \|)? ([^|]*`tests/[^|]*) \|$", PAGE, re.MULTILINE
)
KEPT = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
TABLES = re.findall(r"^\| .* \| kept by \|\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)


def test_every_row_names_a_test():
    """No promise goes without."""
    assert sum(table.count("\n") for table in TABLES) == len(ROWS) > 30


@pytest.mark.parametrize(("promise", "kept_by"), ROWS, ids=[promise[:40] for promise, _ in ROWS])
def test_the_tests_that_keep_it_are_there(promise, kept_by):
    """Files that hold tests, and tests by name."""
    named = KEPT.findall(kept_by)
    assert named, promise
    for path, name in named:
        tests = re.findall(r"^def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert tests
        assert not name or name in tests, name


def test_every_test_of_security_keeps_a_promise():
    """A test file that no promise names has lost what it is for."""
    here = {f"tests/security/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here - {path for path, _ in KEPT.findall(PAGE)} == {
        "tests/security/test_the_security_page_is_true.py"
    }


def test_the_files_that_it_names_are_there():
    """Modules, tools, lists of pins."""
    for path in re.findall(r"`((?:rldk|tools|constraints)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
