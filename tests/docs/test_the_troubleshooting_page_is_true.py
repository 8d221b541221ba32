"""docs/troubleshooting.md quotes what RLDK says, and names commands, variables and anchors that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import typer
from typer.testing import CliRunner

from rldk.cli import app
from rldk.settings import Settings
from tests.cli._tail_runs import Writer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SAID = (
    "none, the journal alone",
    "does not take the API key",
    "trying again, events wait in",
    "where RLDK writes to the same run",
    "another process delivers it to this tracker",
    "measures no KL to a reference",
    "there is no evaluation",
    "the first verdict would come",
    "no checkpoint is saved",
    "resources are not sampled",
    "training is on-policy",
    "fp16 is not on",
    "the rule is made for",
    "the rule failed",
    "another process is writing it",
    "not running",
    "has no PPOTrainer",
    "cannot be written",
    "Loss of 0.0 hides a divergence",
    "GPUs go unmeasured",
    "No progress",
)


def source():
    """The text of RLDK, with strings that are written in two joined."""
    files = [*ROOT.glob("rldk/**/*.py"), *ROOT.glob("bridges/**/*.py")]
    text = "".join(path.read_text() for path in sorted(files))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_what_it_quotes_is_said():
    """Each message is on the page, and in the code."""
    text = source()
    for said in SAID:
        assert said in PAGE, said
        assert said in text, said


def test_its_commands_exist():
    """Each command of a block is one of RLDK's, with options that it has."""
    group = typer.main.get_group(app)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.partition("#  ")[0].partition("  #")[0] for line in "".join(blocks).splitlines()]
    assert len(lines) > 8
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "rldk"
        known = {word for param in group.commands[words[1]].params for word in param.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_its_variables_exist():
    """Each variable is read."""
    known = {f"RLDK_{name.upper()}" for name in Settings.__struct_fields__}
    assert set(re.findall(r"RLDK_[A-Z_]+[A-Z]", PAGE)) <= known


def test_its_links_lead_somewhere():
    """Each anchor is a heading of the page, each page is there."""
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        page, _, anchor = target.partition("#")
        assert (ROOT / "docs" / page).exists() if page else anchor in headings, target


def test_the_fields_of_the_documents_are_told(tmp_path):
    """docs/cli.md names each field of what `rldk tail --json` and `rldk doctor --json` write."""
    page = (ROOT / "docs" / "cli.md").read_text()
    told = page.partition("## A run as it is written")[2].partition("## Completion")[0]
    Writer(tmp_path).journal.close()
    for words in (
        ["tail", str(tmp_path)],
        ["doctor", "--offline", "--trainer", "SFT", "--set", "max_steps=9"],
    ):
        done = CliRunner().invoke(app, [*words, "--json"])
        fields = set(json.loads(done.stdout)) - {"schema"}
        assert fields <= set(re.findall(r"`(\w+)`", told)), words
