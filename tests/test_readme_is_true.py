"""What the README says of commands, parameters and settings is so."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from pathlib import Path

import pytest

from rldk.health.limits import LIMITS
from rldk.integrations.trl import RLDKCallback
from rldk.schema import DTYPES
from rldk.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_each_make_command_is_a_target():
    """Make itself knows every target that the README names."""
    for target in set(re.findall(r"make (\w[\w-]*)", "\n".join(blocks("bash")) + README)) - {"are"}:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("block", blocks("python"))
def test_each_python_block_is_python(block):
    """A block can be pasted."""
    ast.parse(block)


def test_the_table_of_options_is_the_callbacks_signature():
    """No parameter is missing or made up."""
    listed = re.findall(r"^\| `([a-z]\w*)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(inspect.signature(RLDKCallback).parameters)


def test_the_settings_of_delivery_are_listed_with_their_defaults():
    """Every environment variable is there."""
    listed = {}
    for names, defaults in re.findall(r"^\| (`RLDK_\w+`(?:, `RLDK_\w+`)?) \| (.+?) \|", README, re.MULTILINE):
        listed |= zip(names.split(", "), defaults.replace("`", "").split(", "), strict=True)
    fields = zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True)
    assert listed == {f"`RLDK_{name.upper()}`": f"{default}".removesuffix(".0") for name, default in fields}


def test_thresholds_and_columns_are_listed():
    """The names that users type are those that the code knows."""
    assert all(f"`{name}`" in README for name in [*LIMITS, *DTYPES])


def test_links_within_the_repository_lead_somewhere():
    """Relative links name files that exist."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
