"""Whatever goes wrong ends in one line without secrets; `--debug` shows the traceback, without them too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rldk.errors import SettingError
from tests.cli._commands import rldk
from tests.diff._runs import write

TOKEN = "hf_" + "aB3" * 12
RLDK = [sys.executable, "-m", "rldk"]


@pytest.fixture
def run(tmp_path):
    """A journal."""
    return write(tmp_path, "run")


@pytest.fixture
def broken(monkeypatch):
    """Have reading raise an error; gives what sets it."""
    return lambda error: monkeypatch.setattr("rldk.ingest.ingest_runs", _raiser(error))


def _raiser(error):
    def ingest_runs(*_, **__):
        raise error

    return ingest_runs


def test_a_fault_of_rldk_is_one_line_and_code_70(run, broken):
    """It names the exception, says how to see more and that it is to be reported."""
    broken(ValueError(f"no {TOKEN}\nat all \x1b[31m"))
    done = rldk("ingest", run)
    assert (done.exit_code, done.stdout) == (70, "")
    assert done.stderr.startswith("rldk: ValueError: no [hidden] at all")
    assert "this is a fault of RLDK: report it" in done.stderr
    assert "--debug" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--debug", "ingest", "{run}"), ("ingest", "{run}", "--debug"), ("ingest", "--debug", "{run}")]
)
@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError(f"no {TOKEN}"), 70), (SettingError("--x", f"http://me:{TOKEN}@host", "another"), 2)],
)
def test_debug_shows_the_traceback(run, broken, words, error, code):
    """Before and after the command's name, of errors of every kind, and the line below it."""
    broken(error)
    done = rldk(*(word.format(run=run) for word in words))
    lines = done.stderr.splitlines()
    assert done.exit_code == code
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("rldk: ")
    assert any("ingest_runs" in line for line in lines)
    assert TOKEN not in done.output


@pytest.mark.parametrize(("value", "is_shown"), [("1", True), ("0", False), ("", False)])
def test_debug_can_be_set_in_the_environment(run, broken, value, is_shown):
    """RLDK_DEBUG."""
    broken(ValueError("no"))
    assert ("Traceback" in rldk("ingest", run, RLDK_DEBUG=value).stderr) is is_shown


def test_a_file_that_cannot_be_written_is_no_fault_of_rldk(run, broken):
    """The system's words, and the path."""
    broken(PermissionError(13, "Permission denied", "/data/x.csv"))
    done = rldk("ingest", run)
    assert (done.exit_code, done.stderr) == (
        2,
        "rldk: /data/x.csv: Permission denied; check the path and its rights\n",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("frob",), "No such command 'frob'; see rldk --help"),
        (("check", "--frob"), "No such option: --frob; see rldk check --help"),
        (("check",), "; see rldk check --help"),
        (("demo", "--steps", "many"), "Invalid value for '--steps'"),
        (("sync", "x"), "Missing option '--to'"),
        (("ingest", "x", "--format", TOKEN), "Invalid value for '--format'"),
    ],
)
def test_wrong_usage_is_one_line(words, said):
    """With where to look."""
    done = rldk(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr


def test_without_a_command_the_help_is_shown():
    """And the code is that of wrong usage."""
    done = rldk()
    assert (done.exit_code, "Commands" in done.stdout) == (2, True)


@pytest.mark.parametrize("name", ["ingest", "check"])
def test_ctrl_c_ends_with_130(run, name):
    """In a word."""
    program = (
        "import os, signal, sys, rldk.sources as s\n"
        "s.find_adapter = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from rldk.cli import app\n"
        "app(sys.argv[1:], prog_name='rldk')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name, str(run)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "rldk: interrupted\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("check", "--help"),
        ("ingest", "{run}", "--format", "csv"),
        ("ingest", "{run}"),
        ("check", "{run}", "--json"),
    ],
)
def test_a_closed_pipe_ends_quietly(tmp_path, words):
    """As `| head -1` closes it, whether much or little was to come."""
    run = write(tmp_path, "run", steps=range(1, 2001))
    out, closed = os.pipe()
    os.close(out)
    command = [*RLDK, *(word.format(run=run) for word in words)]
    with os.fdopen(closed, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_said(run):
    """Where the output is a device that takes nothing."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*RLDK, "ingest", str(run)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "rldk: No space left on device; --debug shows where\n")


@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [
        ("check {run}", ">&-", 0),
        ("check {run} --json", "<&- >&- 2>&-", 0),
        ("ingest {run} --format csv", ">&-", 0),
        ("check {run}.not", "2>&-", 3),
    ],
)
def test_a_stream_that_was_closed_before_is_nowhere(run, words, closed, code):
    """The command does what it does, and its code tells."""
    command = ["bash", "-c", f'"$0" -m rldk {words.format(run=run)} {closed}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Error" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check {run} --runs nope", "--runs='nope' cannot be used"),
        ("ingest {run} --runs nope", "--runs='nope' cannot be used"),
        ("ingest {run} --attempts some", "--attempts='some' cannot be used"),
        ("check {run} --threshold nope=1", "--threshold='nope' cannot be used"),
        ("check {run} --threshold clip_fraction=nan", "--threshold['clip_fraction']=nan cannot be used"),
        ("diff {run} {run} --plot x.doc", "--plot='x.doc' cannot be used"),
        ("diff {run} {run} --rtol=-1", "--rtol=-1.0 cannot be used"),
    ],
)
def test_an_option_is_called_as_it_is_typed(run, words, said):
    """With its dashes, by whichever name Python knows it."""
    done = rldk(*words.format(run=run).split())
    assert done.exit_code == 2
    assert done.stderr.startswith(f"rldk: {said}; give ")
