"""What the tests of the command line share: the command, runs that are soon written, and docs/cli.md."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from rldk.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
COMMANDS = ("demo", "ingest", "sync", "verify", "check", "explain", "report", "diff", "tail", "doctor")


def rldk(*words, **environment):
    """Call the command in this process."""
    return CliRunner(env={"COLUMNS": "80"} | environment).invoke(app, [str(word) for word in words])


def rows(heading):
    """The rows of the table of docs/cli.md whose head begins with this, each as its cells."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
