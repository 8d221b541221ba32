"""docs/health.md says what the rules say, and what it shows works."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from rldk.health import limits, rule_files
from rldk.health.monitor import Monitor
from rldk.health.rules import built_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def health_page():
    """The script that writes the table of the rules."""
    spec = importlib.util.spec_from_file_location("health_page", ROOT / "tools" / "health_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rules_are_those_of_the_code(health_page):
    """Where this fails, run `python tools/health_page.py` and commit the page."""
    assert health_page.page(PAGE) == PAGE


def test_every_rule_is_in_the_measured_tables():
    """Each rule's false-alarm rate is published."""
    measured = PAGE.partition("<!-- measured: begin")[2].partition("<!-- measured: end")[0]
    assert [rule.name for rule in built_in() if f"| `{rule.name}` |" not in measured] == []


def test_the_limits_are_those_of_the_code():
    """Each name has a row, with the sentence of its note."""
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| ([\w ]+ detected) \|$", PAGE, re.MULTILINE))
    known = {name: limits.limits({name: 1.0})[0].sentence for name in limits.LIMITS}
    assert listed == known


def test_the_rules_in_toml_can_be_loaded(tmp_path):
    """The block is a file of rules as it stands."""
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    path = tmp_path / "rules.toml"
    path.write_text(block)
    names = {rule.name for rule in rule_files.rules_with(path)}
    assert "long_and_bad" in names
    assert "kl_negative" not in names


def test_the_rule_in_python_is_one():
    """The block defines a rule that the monitor takes."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    defined = {}
    exec(compile(block, "docs/health.md", "exec"), defined)  # noqa: S102  # it is our own page
    rules = rule_files.rules_with(defined["RewardPerToken"]())
    assert Monitor(rules).summary()["rules"][-1]["rule"] == "reward_per_token"
