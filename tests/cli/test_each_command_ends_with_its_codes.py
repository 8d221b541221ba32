"""Each command ends with the exit codes that docs/cli.md tells, and says in one line why."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rldk.errors import SourceError
from tests.bridges._journals import cache_of_its_own  # noqa: F401
from tests.cli._commands import COMMANDS, rldk, rows
from tests.diff._runs import write


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Runs and what is none, by name, in the folder that is current."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = write(tmp_path / "run", "run")
    write(tmp_path / "two", "one")
    write(tmp_path / "two", "two")
    broken = write(tmp_path / "broken", "broken", lambda _, metrics: metrics | {"loss": float("nan")})
    failed = write(tmp_path / "failed", "failed", status="FAILED")
    Path("empty.jsonl").write_bytes(b"")
    Path("empty_events.jsonl").write_bytes(b"")
    Path("garbage.bin").write_bytes(bytes(range(256)) * 20)
    Path("half.json").write_text('{"log_history": [{"step"')
    Path("folder").mkdir()
    Path("file").write_text("")
    runs = {"run": run, "broken": broken, "failed": failed}
    return runs | {"alert": f"{broken}#nonfinite@1", "dead": f"http://{nobody()}"}


def nobody():
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


FINE = {
    "ingest": [("ingest", "{run}")],
    "sync": [("sync", "{run}", "--to", "mlflow", "--dry-run"), ("sync", "two", "--to", "wandb", "--dry-run")],
    "verify": [("verify", "{run}", "{run}")],
    "check": [("check", "{run}"), ("check", "{broken}", "--fail-on", "never")],
    "explain": [("explain", "{run}"), ("explain", "{alert}"), ("explain", "kl_drift")],
    "report": [("report", "{run}", "-o", "out")],
    "diff": [("diff", "{run}", "{run}")],
    "tail": [("tail", "{run}", "--once")],
    "doctor": [("doctor", "--offline")],
}
FOUND = {
    "verify": [("verify", "{run}", "{broken}")],
    "check": [("check", "{broken}")],
    "diff": [("diff", "{run}", "{broken}")],
    "tail": [("tail", "{failed}", "--once")],
    "doctor": [("doctor", "--offline", "--trainer", "GRPO", "--set", "beta=0", "--set", "max_steps=100")],
}
UNREADABLE = ("nowhere", "empty.jsonl", "empty_events.jsonl", "garbage.bin", "half.json", "folder", "")
READS = {
    "ingest": ("ingest", "{}"),
    "sync": ("sync", "{}", "--to", "mlflow", "--dry-run"),
    "verify": ("verify", "run/run_events.jsonl", "{}"),
    "check": ("check", "{}"),
    "explain": ("explain", "{}"),
    "report": ("report", "{}"),
    "diff": ("diff", "run/run_events.jsonl", "{}"),
}
MISUSED = {
    "demo": [("--steps", "1"), ("--tracker", "nobody"), ("--frob",)],
    "ingest": [
        (),
        ("{run}", "--frob"),
        ("{run}", "--adapter", "nobody"),
        ("{run}", "-o", "x.xyz"),
        ("{run}", "--json", "--format", "csv"),
        ("{run}", "--field-map", "nothing"),
    ],
    "sync": [
        ("{run}",),
        ("{run}", "--to", "nobody"),
        ("{run}", "--to", "mlflow", "--patience", "-1"),
        ("{run}", "--to", "mlflow", "--dry-run", "--adapter", "nobody"),
        ("{run}", "{run}", "--to", "mlflow", "--follow"),
    ],
    "verify": [("{run}",), ("{run}", "{run}", *(["--adapter", "trl"] * 3))],
    "check": [
        ("{run}", "--fail-on", "x"),
        ("{run}", "--threshold", "x"),
        ("{run}", "--rules", "nowhere.toml"),
    ],
    "explain": [("{run}#kl_drift@3",)],
    "report": [("{run}", "-o", "file"), ("{run}", "-o", "file/below")],
    "diff": [("{run}", "{run}", "--plot", "x.gif"), ("{run}", "{run}", "--rtol", "-1")],
    "tail": [("{run}", "--interval", "0")],
    "doctor": [("--offline", "--timeout", "0"), ("--set", "beta")],
}
WALKED = {
    0: {*FINE, "demo"},
    1: {*FOUND, "demo", "sync"},
    2: {*MISUSED},
    3: {*READS, "tail", "doctor"},
}


def test_the_table_tells_which_codes_each_command_has():
    """These tests walk all of them, and no other."""
    told = {
        row[0].strip("`"): [bool(cell) for cell in row[1:]] for row in rows(r"command \| 0 \| 1 \| 2 \| 3")
    }
    assert told == {name: [name in WALKED[code] for code in range(4)] for name in COMMANDS}


def cases(table):
    """Each line of a table as a parameter, by the words."""
    return [
        pytest.param(words, id=" ".join(words).replace("/", "_") or name)
        for name, lines in table.items()
        for words in lines
    ]


@pytest.mark.parametrize("words", cases(FINE))
def test_0_where_all_is_well(places, words):
    """Nothing is on stderr."""
    done = rldk(*(word.format(**places) for word in words))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("words", cases(FOUND))
def test_1_where_there_is_a_finding(places, words):
    """Which is told."""
    done = rldk(*(word.format(**places) for word in words))
    assert done.exit_code == 1, done.output
    assert done.output


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, lines in MISUSED.items() for given in lines]
)
def test_2_where_it_cannot_be_done(places, name, given):
    """In one line, with what to give instead, and nothing on stdout."""
    done = rldk(name, *(word.format(**places) for word in given))
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert_one_line(done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        *((name, "two") for name in ("ingest", "check", "explain", "report")),
        ("diff", "{run}", "two"),
        ("verify", "{run}", "two"),
        ("sync", "two", "--to", "mlflow"),
        ("sync", "two", "--to", "mlflow", "--dry-run"),
    ],
)
def test_2_where_there_is_no_such_run(places, words):
    """In the same words everywhere, with the runs that are there."""
    done = rldk(*(word.format(**places) for word in words), "--runs", "nobody", "--json")
    there = "run" if words[0] in {"diff", "verify"} else "one, two"
    said = f"rldk: --runs='nobody' cannot be used; give all, or ids of these runs: {there}\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize("source", UNREADABLE)
@pytest.mark.parametrize("name", READS)
def test_3_where_a_source_cannot_be_read(places, name, source):
    """In one line, as a table and as JSON, and nothing on stdout."""
    words = [word.format(source) for word in READS[name]]
    for asked in (words, [*words, "--json"]):
        done = rldk(*asked)
        assert (done.exit_code, done.stdout) == (3, ""), done.output
        assert_one_line(done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        *(("tail", source, "--once") for source in ("nowhere", "folder")),  # a file may become a run yet
        *(("doctor", "--offline", "--config", source) for source in UNREADABLE if source),
    ],
)
def test_3_where_there_is_no_run_or_no_configuration(places, words):
    """Of which both take other things than the readers do."""
    for asked in (words, [*words, "--json"]):
        done = rldk(*asked)
        assert (done.exit_code, done.stdout) == (3, ""), done.output
        assert_one_line(done.stderr)


@pytest.mark.real
@pytest.mark.parametrize("name", READS)
def test_3_where_a_server_refuses_the_connection(places, name):
    """Soon, and with its address."""
    source = f"{places['dead']}/#/experiments/1/runs/abc"
    done = rldk(*(word.format(source) for word in READS[name]))
    assert (done.exit_code, done.stdout) == (3, ""), done.output
    assert_one_line(done.stderr)
    assert places["dead"] in done.stderr


@pytest.mark.real
def test_sync_ends_with_1_where_the_tracker_refuses_the_connection(places, monkeypatch):
    """After the patience that was asked for; the document tells what waits."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", places["dead"])
    began = time.monotonic()
    done = rldk("sync", places["run"], "--to", "mlflow", "--patience", "0.1", "--json")
    assert done.exit_code == 1, done.output
    (told,) = json.loads(done.stdout)["runs"]
    assert (told["is_whole"], told["delivered"], told["waiting"]) == (False, 0, 46)
    assert "incomplete:" in done.stderr
    assert time.monotonic() - began < 30


def test_sync_ends_with_3_where_one_of_many_cannot_be_read(places, monkeypatch):
    """And tells of each run."""
    from rldk import sync

    def stage(adapter, source, **asked):
        raise SourceError(source, "the disk is broken", "take another one")

    monkeypatch.setattr(sync, "stage", stage)
    done = rldk("sync", places["run"], "--to", "mlflow", "--json")
    assert done.exit_code == 3, done.output
    assert "the disk is broken" in json.loads(done.stdout)["runs"][0]["error"]


@pytest.mark.parametrize("name", READS)
def test_3_where_a_file_may_not_be_read(places, name):
    """By another user than root, who may read all."""
    for folder in [Path.cwd(), *Path.cwd().parents[:2]]:
        folder.chmod(0o755)
    secret = write(Path("secret"), "secret")
    words = [word.format(secret) for word in READS[name]]
    rldk(*words)  # which loads what it needs, for root's modules are not for everyone
    secret.chmod(0)
    with nobody_in_particular():
        done = rldk(*words)
    assert (done.exit_code, done.stdout) == (3, ""), done.output
    assert_one_line(done.stderr)
    assert str(secret) in done.stderr


@contextmanager
def nobody_in_particular():
    """Read files as a user who is not root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_demo_ends_with_0_or_1_by_what_the_homes_give_back(places, monkeypatch):
    """The training itself has tests of its own."""
    from rldk import demo as the_demo
    from rldk.bridge import Home
    from rldk.delivery import DeliveryReport

    def run(copy):
        counts = {"delivered": 1, "rejected": 0, "waiting": 0, "is_closed": True, "reasons": ()}
        report = DeliveryReport(tracker="mlflow", home=Home("mlflow", "x", str(copy)), **counts)
        return lambda *_, **__: the_demo.DemoRun("run", places["run"], [report])

    for copy, code in ((places["run"], 0), (write(Path("other"), "run", lambda *_: {"kl_mean": 1.0}), 1)):
        monkeypatch.setattr(the_demo, "train", run(copy))
        done = rldk("demo", "--tracker", "mlflow", "--json")
        assert (done.exit_code, done.stderr) == (code, "")
        assert json.loads(done.stdout)["agrees"] is (code == 0)


def assert_one_line(text):
    """It is one, it is RLDK's, and no traceback."""
    assert text.startswith("rldk: "), text
    assert text.count("\n") == 1, text
