"""With `--json` each command writes the document that docs/cli.md describes, and nothing else to stdout."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bridges._journals import cache_of_its_own  # noqa: F401
from tests.cli._commands import COMMANDS, PAGE, rldk
from tests.diff._runs import ARGS, event, write

TOKEN = "hf_" + "aB3" * 12


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Runs of which much is to be told, by name, in the folder that is current."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def broken(step, metrics):
        return metrics | {"loss": math.nan if step == 9 else 1.0, "mine": math.inf}

    args = ARGS | {"learning_rate": 2e-6, "hub_token": TOKEN}
    run = write(tmp_path / "run", "run")
    return {"run": run, "broken": write(tmp_path / "broken", "broken", broken, args=args, name=f"my {TOKEN}")}


CALLS = {
    "ingest": ("ingest", "{run}", "{broken}"),
    "ingest -o FOLDER/": ("ingest", "{run}", "{broken}", "-o", "out/"),
    "sync": ("sync", "{run}", "--to", "mlflow"),
    "sync --dry-run": ("sync", "{broken}", "--to", "mlflow", "--dry-run"),
    "verify": ("verify", "{run}", "{broken}"),
    "check": ("check", "{broken}", "{run}"),
    "explain": ("explain", "{broken}#nonfinite@9"),
    "explain RULE": ("explain", "kl_drift"),
    "report": ("report", "{run}", "-o", "out"),
    "diff": ("diff", "{run}", "{broken}"),
}


def described():
    """For each call of docs/cli.md, the names of its fields, and by field those of what is in it."""
    block = PAGE.partition("<!-- documents: begin")[2].partition("<!-- documents: end")[0]
    told = {}
    for call, fields in re.findall(r"^\| `([^`]+)` \| (.*) \|$", block, re.MULTILINE):
        outer = re.sub(r"\([^()]*(?:\([^()]*\)[^()]*)*\)", "", fields)
        inner = {
            name: re.findall(r"`(\w+)`", inside)
            for names, inside in re.findall(r"((?:`\w+` and )?`\w+`) \(([^()]*`[^()]*)\)", fields)
            for name in re.findall(r"`(\w+)`", names)
        }
        told[call] = (re.findall(r"`(\w+)`", outer), inner)
    return told


def parsed(text):
    """The one document of a text; bare NaN is refused."""
    assert text.count("\n") == 1
    return json.loads(text, parse_constant=pytest.fail)


def test_every_command_has_a_document():
    """And each of them is called here."""
    assert set(described()) == {*CALLS, "demo", "tail", "doctor"}  # of the last two other tests tell
    assert {call.split()[0] for call in described()} == set(COMMANDS)


@pytest.mark.real
@pytest.mark.parametrize("call", CALLS)
def test_the_document_has_the_fields_that_the_page_names(places, call):
    """No field more, and none less; secrets are hidden."""
    done = rldk(*(word.format(**places) for word in CALLS[call]), "--json")
    assert done.exit_code in {0, 1}, done.output
    told = parsed(done.stdout)
    outer, inner = described()[call]
    assert told.pop("schema") == 1
    assert list(told) == outer
    for name, fields in inner.items() if call != "explain" else ():  # of which another test tells
        given = told[name]
        each = given if isinstance(given, list) else list(given.values()) if name == "steps" else [given]
        assert each or name == "checkpoints"
        assert all(list(one) == fields for one in each), name
    assert TOKEN not in done.output


def test_the_demos_document_has_its_fields(places, monkeypatch):
    """The training itself has tests of its own."""
    from rldk import demo as the_demo

    monkeypatch.setattr(the_demo, "train", lambda *_, **__: the_demo.DemoRun("run", places["run"], []))
    told = parsed(rldk("demo", "--tracker", "none", "--json").stdout)
    assert list(told) == ["schema", *described()["demo"][0]]
    assert (told["run_id"], told["agrees"]) == ("run", True)


def test_an_alert_is_told_as_in_the_runs_own_file(places):
    """With the points around it."""
    (alert,) = parsed(rldk("explain", f"{places['broken']}#nonfinite@9", "--json").stdout)["alerts"]
    rldk("report", places["broken"], "-o", "out")
    (same,) = [
        one
        for one in json.loads(Path("out/broken_alerts.json").read_text())["alerts"]
        if one["id"] == alert["id"]
    ]
    assert {name: alert[name] for name in same} == same
    assert set(alert) - set(same) == {"since_step", "points"}
    assert {"step": 9, "loss": "NaN"}.items() <= next(
        one for one in alert["points"] if one["step"] == 9
    ).items()


def test_checkpoints_are_told_too(places):
    """Their numbers, and what was found."""
    torch = pytest.importorskip("torch")
    folder = Path("checkpoint-1")
    folder.mkdir()
    torch.save({"w": torch.tensor([1.0, float("nan")])}, folder / "pytorch_model.bin")
    told = parsed(rldk("check", folder, "--json").stdout)
    (one,) = told["checkpoints"]
    assert list(one) == described()["check"][1]["checkpoints"]
    assert one["metrics"]["nonfinite_count"] == 1


def test_missing_zero_and_nan_are_three_things(places):
    """In the first look, too: the first bad step is null where there is none."""
    runs = {
        one["run_id"]: one
        for one in parsed(rldk("ingest", places["run"].parent, places["broken"], "--json").stdout)["runs"]
    }
    assert (runs["run"]["first_bad_step"], runs["broken"]["first_bad_step"]) == (None, 1)


def test_what_others_print_goes_to_stderr(places):
    """A library that prints does not break the document."""
    program = (
        "import sys, rldk.check as c\n"
        "real = c.check\n"
        "c.check = lambda *a: (print('a library talks'), real(*a))[1]\n"
        "from rldk.cli import app\n"
        "app(sys.argv[1:], prog_name='rldk')\n"
    )
    command = [sys.executable, "-c", program, "check", str(places["run"]), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout)["schema"] == 1
    assert "a library talks" in done.stderr


def test_a_run_without_anything_has_a_document(places):
    """A journal of one run event."""
    from rldk import event as event_json

    Path("bare_events.jsonl").write_bytes(event_json.encode(event("bare", 0, kind="run")) + b"\n")
    assert parsed(rldk("ingest", "bare_events.jsonl", "--json").stdout)["rows"] == 0
    assert parsed(rldk("check", "bare_events.jsonl", "--json").stdout)["runs"][0]["points"] == 0
