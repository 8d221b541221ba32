"""`rldk tail`: once, as JSON, and live in a terminal of any size, until the run or its reader ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from tests.cli._tail_runs import Writer

RLDK = [sys.executable, "-m", "rldk", "tail"]
WRITES = """
import sys, pathlib, time
sys.path.insert(0, sys.argv[2])
from tests.cli._tail_runs import Writer
writer = Writer(pathlib.Path(sys.argv[1]), max_steps=50)
writer.logs(1, 40)
print("ready", flush=True)
sys.stdin.readline()
writer.logs(41, 50)
writer.end(50, verdict=sys.argv[3])
"""


def run(*arguments):
    """Call the command in this process."""
    return CliRunner().invoke(app, ["tail", *map(str, arguments)])


@pytest.fixture
def writer(tmp_path):
    """A run that is being written."""
    made = Writer(tmp_path, max_steps=50)
    made.logs(1, 40)
    yield made
    made.journal.close()


def test_without_a_terminal_it_is_shown_once(writer):
    """One picture with every metric, plain text, and exit code 0 for a run that goes on."""
    told = run(writer.path)
    assert told.exit_code == 0
    assert "step 40 of 50" in told.stdout
    assert "\x1b" not in told.stdout


def test_json_is_one_document(writer):
    """The same as one document of strict JSON."""
    told = run(writer.path.parent, "--json", "--metrics", "reward*")
    document = json.loads(told.stdout)
    assert (document["schema"], document["life"], document["step"]) == (1, "running", 40)
    assert list(document["metrics"]) == ["reward_mean"]


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("critical", 1)])
def test_the_exit_code_is_the_verdict(writer, verdict, code):
    """A critical run is a finding."""
    writer.end(40, verdict=verdict)
    assert run(writer.path, "--once").exit_code == code


def test_a_run_that_nobody_writes_is_a_finding(writer):
    """No end, and no process: it was killed."""
    writer.journal.close()
    told = run(writer.path)
    assert (told.exit_code, "not running" in told.stdout) == (1, True)


def test_a_run_that_is_not_there_cannot_be_read(tmp_path):
    """Exit code 3, and what to give instead."""
    for what in (tmp_path, tmp_path / "nothing"):
        done = subprocess.run([*RLDK, str(what)], capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert done.stderr.startswith("rldk: cannot read")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)) * 40, "it holds no event: this is no journal; give a journal"),
        (b"\x00\xff", "it holds no event: this is no journal; give a journal"),
        (b"step,loss\n1,2\n" * 2**19, "it holds no event: this is no journal; give a journal"),
        (b'{"v":9}\n', "it holds no event: Object missing required field"),
    ],
)
def test_what_holds_no_event_cannot_be_read(tmp_path, content, said):
    """It is said, in place of waiting for events that never come."""
    path = tmp_path / "rnd_events.jsonl"
    path.write_bytes(content)
    for how in ("--once", "--json"):
        told = run(path, how)
        assert (told.exit_code, said in told.stderr) == (3, True)


@pytest.mark.parametrize("content", [b"", b'{"', b'{"v":1,"kind":"run"'])
def test_a_journal_that_is_being_begun_is_waited_for(tmp_path, content):
    """Nothing yet, or a line that is not whole."""
    path = tmp_path / "new_events.jsonl"
    path.write_bytes(content)
    told = run(path, "--once")
    assert (told.exit_code, "waiting" in told.stdout) == (0, True)


def test_a_metric_that_is_not_there_is_misuse(writer):
    """The same words as of `rldk diff`, with what there is; before the first metric nobody can say."""
    for how in ("--once", "--json"):
        told = run(writer.path, "--metrics", "zzz*", how)
        said = "--metrics='zzz*' cannot be used; give some of "
        assert (told.exit_code, said in told.stderr, "reward_mean" in told.stderr) == (2, True, True)
    new = Writer(writer.path.parent, "new", max_steps=50)
    assert run(new.path, "--metrics", "zzz*").exit_code == 0
    new.journal.close()


class Terminal:
    """A program in a terminal of its own, 80 by 24 at first."""

    def __init__(self, command, folder):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm-256color", COLUMNS="", LINES="")
            for name in ("COLUMNS", "LINES"):
                del os.environ[name]
            os.execv(command[0], command)  # noqa: S606  # our own program
        self.pid, self.text = pid, ""
        self.resize(80, 24)

    def resize(self, columns, rows):
        """Give the terminal another size."""
        termios.tcsetwinsize(self.fd, (rows, columns))
        self.text = ""

    def wait_for(self, *shown, timeout_s=60):
        """Read what the program shows until all of it is there."""
        end = time.monotonic() + timeout_s
        while not all(text in self.text for text in shown):
            assert time.monotonic() < end, self.text[-3000:]
            if not self._read():
                break
        assert all(text in self.text for text in shown), self.text[-3000:]

    def _read(self):
        if select.select([self.fd], [], [], 0.2)[0]:
            try:
                block = os.read(self.fd, 65536)
            except OSError:  # Linux says so at the end
                return False
            self.text += block.decode(errors="replace")
            return bool(block)
        return True

    def code(self):
        """Read on to the program's end; gives its exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def training(tmp_path):
    """A process that writes a journal: 40 of 50 steps, and the rest when it is told to go on."""
    here = str(Path(__file__).parents[2])
    started = []

    def start(verdict="ok"):
        command = [sys.executable, "-c", WRITES, str(tmp_path), here, verdict]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("critical", 1)])
def test_it_follows_a_process_to_its_end(training, tmp_path, verdict, code):
    """Live: what a process writes appears, in whatever size; the run's end ends it, with the run's code."""
    process = training(verdict)
    terminal = Terminal([*RLDK, str(tmp_path), "--interval", "0.2"], tmp_path)
    terminal.wait_for("\x1b[?1049h", "step 40 of 50", "running")
    terminal.resize(140, 40)
    terminal.wait_for("\u2502 ", "step 40 of 50")
    process.stdin.write("\n")
    process.stdin.flush()
    terminal.wait_for("finished", "step 50 of 50", "\x1b[?1049l")
    assert terminal.code() == code
    assert terminal.text.rindex("step 50 of 50") > terminal.text.rindex("\x1b[?1049l")  # it stays to be read


def test_ctrl_c_ends_it_cleanly(training, tmp_path):
    """Exit code 0, the terminal as it was, and the last picture left behind."""
    training()
    terminal = Terminal([*RLDK, str(tmp_path)], tmp_path)
    terminal.wait_for("step 40 of 50")
    os.kill(terminal.pid, signal.SIGINT)
    assert terminal.code() == 0
    assert "Traceback" not in terminal.text
    assert terminal.text.count("\x1b[?25h") >= 1  # the cursor is back
