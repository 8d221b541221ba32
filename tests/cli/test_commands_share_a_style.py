"""Every command speaks alike: one option is one word with one help text, and docs/cli.md has them all."""

from __future__ import annotations

import re

import pytest
import typer

from rldk.cli import app
from tests.cli._commands import COMMANDS, PAGE, rldk

GROUP = typer.main.get_group(app)
READERS = ("ingest", "check", "explain", "report", "diff")


def options(name):
    """The options of a command: its words to its help."""
    command = GROUP.commands[name]
    return {
        word: getattr(param, "help", "") for param in command.params for word in param.opts if word[0] == "-"
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_json_and_debug(name):
    """With one help text."""
    assert options(name)["--json"] == options("check")["--json"]
    assert options(name)["--debug"] == options("check")["--debug"]


def test_shared_options_have_one_help_text():
    """Those that read sources; two of them read two, and say so."""
    for word, names in {
        "--adapter": ("ingest", "sync", "check", "explain", "report"),
        "--runs": ("ingest", "sync", "check", "explain", "report"),
        "--field-map": READERS,
        "--rules": ("check", "explain"),
    }.items():
        assert len({options(name)[word] for name in names}) == 1, word
    for word in ("--adapter", "--runs"):
        assert options("verify")[word] == options("diff")[word]
    for name in ("ingest", "report", "demo"):
        assert {"-o", "--output"} <= options(name).keys()


def test_sources_have_one_help_text():
    """And one name."""
    told = set()
    for name in ("ingest", "sync", "check", "report"):
        (source,) = [param for param in GROUP.commands[name].params if param.name == "sources"]
        told.add((source.metavar, source.help))
    ((metavar, said),) = told
    assert metavar == "SOURCE"
    assert "docs/sources.md" in said


def test_no_word_is_left_of_an_older_style():
    """`--format json`, `--out` and `--adapters` are gone."""
    words = {word for name in COMMANDS for word in options(name)}
    assert not words & {"--out", "--adapters"}
    assert "--format" not in options("check")


def test_the_page_names_every_command():
    """And none that is not there."""
    told = set(re.findall(r"^\| `rldk (\w+)", PAGE, re.MULTILINE))
    assert set(COMMANDS) <= told
    assert set(GROUP.commands) <= told


def test_runs_are_chosen_alike(tmp_path):
    """By id, by pattern, and a name that looks like a pattern by itself."""
    from tests.diff._runs import write

    for run in ("grpo-1", "grpo-2", "ppo[1]"):
        write(tmp_path / "in", run)
    for words, expected in {("grpo-*",): 2, ("grpo-1", "ppo[1]"): 2, ("ppo[1]",): 1, ("all",): 3}.items():
        asked = [word for each in words for word in ("--runs", each)]
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert (
            rldk("report", tmp_path / "in", "-o", out, *asked, "--json").stdout.count('"run_id"') == expected
        )
        assert rldk("check", tmp_path / "in", *asked, "--json").stdout.count('"run_id"') == expected
        assert rldk("ingest", tmp_path / "in", *asked, "--json").stdout.count('"run_id"') == expected
        plans = rldk("sync", tmp_path / "in", "--to", "mlflow", "--dry-run", *asked, "--json")
        assert plans.stdout.count('"run_id"') == expected
