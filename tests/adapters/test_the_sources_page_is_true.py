"""What docs/sources.md lists can be read: each row has its test, and each adapter its row."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from rldk.adapters.raw import STEPS
from rldk.bridge import adapters

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text()
TEST = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")


class Row(NamedTuple):
    """What the page says of one kind of source."""

    source: str
    give: str
    adapter: str
    known_by: str
    comes_back: str
    sample: str
    test: str


ROWS = [
    Row(*(cell.strip() for cell in line[1:-1].split("|")))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| source |", "| --- |"))
]


@cache
def functions_of(path):
    """The names of the tests in a file, and of what helps them."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_page_has_rows():
    """So that the other tests are not empty."""
    assert len(ROWS) > 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.source)
def test_a_row_names_a_test_that_exists(row):
    """The file, and the test in it."""
    named = TEST.findall(row.test)
    assert named
    for path, test in named:
        assert test in functions_of(path) | {""}
        assert any(name.startswith("test_") for name in functions_of(path))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.source)
def test_a_row_names_an_installed_adapter(row):
    """And what to give, and says of the test's sample whether the tool itself made it."""
    assert row.adapter.strip("`") in adapters()
    assert "`" in row.give
    assert row.sample.startswith(("real", "by format"))


ADDRESSES = [
    (address, row.adapter.strip("`")) for row in ROWS for address in re.findall(r"`(\w+:/[^`]+)`", row.give)
]


@pytest.mark.parametrize(("address", "adapter"), ADDRESSES)
def test_an_address_is_known_by_its_form(address, adapter):
    """As the page spells it, by that adapter alone."""
    assert [name for name, kind in adapters().items() if kind(address).can_handle()] == [adapter]


def test_every_adapter_has_a_row():
    """What RLDK can read, the page tells."""
    ours = {name for name, adapter in adapters().items() if adapter.__module__.startswith("rldk")}
    assert {row.adapter.strip("`") for row in ROWS} == ours


def test_the_names_of_a_step_are_told():
    """In the order in which they count."""
    told = re.search(r"The step of a row is (.*?), the\s", PAGE, re.DOTALL)
    assert told is not None
    assert re.findall(r"`([\w/]+)`", told[1]) == list(STEPS)


def test_what_is_said_beside_the_tables_is_tested_too():
    """Each file that the page names is there."""
    assert all((ROOT / path).exists() for path, _ in TEST.findall(PAGE))
