"""What docs/delivery.md promises is kept by a test, each promise by one that is there."""

from __future__ import annotations

import re

import pytest

from rldk.settings import Settings
from tests.docs._pages import ROOT, text_of

PAGE = text_of(ROOT / "docs" / "delivery.md")
PROMISES = re.findall(r"^\| (\S.+?) \| (.*`tests/.*) \|$", PAGE, re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_row_is_a_promise_with_a_test():
    """No row of the tables of promises goes without."""
    tables = re.findall(r"^\| promise \| kept by \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert sum(table.count("\n") for table in tables) == len(PROMISES) > 20


@pytest.mark.parametrize(("promise", "kept_by"), PROMISES, ids=[promise[:40] for promise, _ in PROMISES])
def test_the_tests_that_keep_it_are_there(promise, kept_by):
    """Each names files that hold tests, and tests by name where a file holds other things, too."""
    named = TEST.findall(kept_by)
    assert named
    for path, name in named:
        tests = re.findall(r"^def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert tests, promise
        assert not name or name in tests, promise


def test_the_settings_that_it_names_are_settings():
    """A promise that depends on a variable names a real one."""
    known = {f"RLDK_{name.upper()}" for name in Settings.__struct_fields__}
    assert set(re.findall(r"RLDK_\w+", PAGE)) <= known
