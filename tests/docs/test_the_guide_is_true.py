"""What the guide and the README say of commands, parameters and settings is so."""

from __future__ import annotations

import inspect
import re
import subprocess
import tomllib

import pytest

from rldk.health.limits import LIMITS
from rldk.health.rules import built_in
from rldk.integrations.trl import RLDKCallback
from rldk.schema import DTYPES
from rldk.settings import Settings
from tests.docs._pages import README, ROOT, text_of

GUIDE = text_of(ROOT / "docs" / "guide.md")
START = text_of(README)
SCREEN = 64  # lines


def test_the_table_of_options_is_the_callbacks_signature():
    """No parameter is missing or made up."""
    listed = re.findall(
        r"^\| `([a-z]\w*)` \| .+ \| .+ \|$", GUIDE.partition("## All options")[2], re.MULTILINE
    )
    assert sorted(listed) == sorted(inspect.signature(RLDKCallback).parameters)


def test_the_defaults_of_options_are_those_of_the_signature():
    """A default that is a plain value is the real one."""
    rows = re.findall(r"^\| `([a-z]\w*)` \| `?(True|False|None|\d+|\"\w+\")`? \|", GUIDE, re.MULTILINE)
    parameters = inspect.signature(RLDKCallback).parameters
    assert {name: default.strip('"') for name, default in rows} == {
        name: str(parameters[name].default) for name, _ in rows
    }
    assert len(rows) > 5


def test_the_settings_of_delivery_are_listed_with_their_defaults():
    """Every environment variable is there."""
    listed = {}
    for names, defaults in re.findall(r"^\| (`RLDK_\w+`(?:, `RLDK_\w+`)?) \| (.+?) \|", GUIDE, re.MULTILINE):
        listed |= zip(names.split(", "), defaults.replace("`", "").split(", "), strict=True)
    fields = zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True)
    assert listed == {f"`RLDK_{name.upper()}`": f"{default}".removesuffix(".0") for name, default in fields}


def test_thresholds_and_columns_are_listed():
    """The names that users type are those that the code knows."""
    assert [name for name in [*LIMITS, *DTYPES] if f"`{name}`" not in GUIDE] == []


def test_the_extras_are_those_of_the_package():
    """What can be installed is listed, and nothing else."""
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    table = GUIDE.partition("| extra |")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0])}
    assert listed == set(extras) - {"dev", "docs"}
    asked = re.findall(r"rldk\[([\w,]+)\]", GUIDE + START)
    assert {name for each in asked for name in each.split(",")} <= set(extras)


def test_each_make_command_is_a_target():
    """Make itself knows every target that the README names."""
    targets = set(re.findall(r"^make (\w[\w-]*)|`make (\w[\w-]*)`", START, re.MULTILINE))
    named = {first or second for first, second in targets}
    assert named
    for target in named:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_the_readme_is_one_screen():
    """Whoever comes for the first time reads it to its end."""
    assert START.count("\n") <= SCREEN


def test_the_number_of_rules_is_theirs():
    """A rule that is added is counted."""
    assert re.findall(r"(\d+) rules", START) == [str(len(built_in()))]


@pytest.mark.parametrize(
    "page", ["quickstart", "guide", "metrics", "health", "delivery", "sources", "comparison"]
)
def test_the_readme_leads_to_each_page(page):
    """What it leaves out can be found from it."""
    assert f"(docs/{page}.md)" in START
