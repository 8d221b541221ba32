"""Long work shows a progress bar on a terminal, and nothing where stderr is none."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.bridges._journals import cache_of_its_own  # noqa: F401
from tests.diff._runs import write

RLDK = [sys.executable, "-m", "rldk"]
CALLS = {
    "ingest": ("ingest", "{one}", "{two}"),
    "check": ("check", "{one}", "{two}"),
    "verify": ("verify", "{one}", "{one}"),
    "report": ("report", "{one}", "{two}", "-o", "out"),
    "diff": ("diff", "{one}", "{two}"),
    "sync": ("sync", "{one}", "--to", "wandb"),
}


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Give the words of a call, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    runs = {"one": write(tmp_path, "one"), "two": write(tmp_path, "two")}
    return lambda name: [*RLDK, *(word.format(**runs) for word in CALLS[name])]


def on_a_terminal(command):
    """Run a command whose stderr alone is a terminal; gives code, stdout, and what the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # as Linux says that the other end is closed
            pass
        out, _ = process.communicate()
    os.close(ours)
    return process.returncode, out.decode(), shown.decode()


@pytest.mark.real
@pytest.mark.parametrize("name", CALLS)
def test_a_terminal_gets_a_bar(words, name):
    """It is gone at the end, and what is told goes to stdout all the same."""
    code, out, shown = on_a_terminal(words(name))
    assert code == 0, shown
    assert "━" in shown
    assert re.search(r"\d/\d", shown)
    assert out.strip()
    assert "━━ " not in out


@pytest.mark.parametrize("name", ["check", "diff"])
def test_a_file_gets_none(words, name):
    """Nothing is on stderr."""
    done = subprocess.run(words(name), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_document_is_alone_beside_a_bar(words):
    """With --json, too."""
    code, out, _ = on_a_terminal([*words("check"), "--json"])
    assert (code, out.count("\n"), out[:12]) == (0, 1, '{"schema":1,')
