"""No secret gets into anything that RLDK writes: not of a run that is told dozens, and fails in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from rldk.cli import app
from rldk.demo import build_tiny_model
from rldk.ingest import ingest_runs
from rldk_wandb.blocks import Damage, records
from tests.conftest import QUIET_MLFLOW
from tests.security._secrets import FORMS, FRIENDS, PLACES

pytestmark = pytest.mark.real

_NAMED = (
    "reward_api_key",
    "option",
    "header",
    "json",
    "inner",
    "model_config",
    "tag",
    "server",
    "git",
    "title",
    "advice",
)
_VARIABLES = ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "WANDB_API_KEY")


def made_up(number):
    """A text that nobody would have thought of, another one for each number."""
    return f"Zx{number:02d}Qw7Er5Ty3Ui1Op0As{number:02d}"


NAMED = {name: made_up(10 + n) for n, name in enumerate(_NAMED)}
IN_PLACES = {place: made_up(40 + n) for n, place in enumerate(PLACES)}
VARIABLES = {name: made_up(80 + n) for n, name in enumerate(_VARIABLES)} | {"WANDB_API_KEY": "0f1e2d3c" * 5}
SECRETS = {**FORMS, **NAMED, **IN_PLACES, **VARIABLES}
RULES = """
[[rule]]
name = "leaky"
title = "Leaky with token={title}"
severity = "info"
when = "loss > 0"
message = "at loss {{loss}} with password={title}"
advice = "call https://me:{advice}@judge.example/retry"
"""


class Trained(NamedTuple):
    """What the training left behind."""

    folder: Path
    journal: Path
    tracker: str
    server: Path
    rules: Path
    said: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory, serve_mlflow, empty_mlflow_db):
    """Train in a repository, with a journal, a real MLflow server that gets a password, and W&B offline."""
    folder, server = tmp_path_factory.mktemp("leaky"), tmp_path_factory.mktemp("server")
    told = tmp_path_factory.mktemp("told")
    (server / "mlflow.db").write_bytes(empty_mlflow_db.read_bytes())
    (told / "rules.toml").write_text(RULES.format(**NAMED))
    build_tiny_model(told / "model")
    (told / "told.json").write_text(
        json.dumps(
            {
                "forms": FORMS,
                "places": {place: text.format(IN_PLACES[place]) for place, text in PLACES.items()},
                "named": NAMED,
                "friends": FRIENDS,
                "rules": str(told / "rules.toml"),
                "model": str(told / "model"),
            }
        )
    )
    remote = f"https://me:{NAMED['git']}@github.example/acme/repo.git"
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    with serve_mlflow(server / "mlflow.db") as address:
        tracker = address.replace("://", f"://ops:{NAMED['server']}@")
        environment = {
            **os.environ,
            **QUIET_MLFLOW,
            **VARIABLES,
            "MLFLOW_TRACKING_URI": tracker,
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "WANDB_SILENT": "true",
            "WANDB_DISABLE_GIT": "true",  # what wandb itself records of a repository is not ours
            "WANDB_DATA_DIR": str(folder),
            "WANDB_CACHE_DIR": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        program = Path(__file__).with_name("_leaky_training.py")
        done = subprocess.run(
            [sys.executable, program, told / "told.json"],
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
        )
        said = done.stdout + done.stderr
        journals = list(folder.glob("rldk/*_events.jsonl"))
        assert journals, said.decode()
        yield Trained(folder, journals[0], tracker, server, told / "rules.toml", said.decode())


def leaks(data, where):
    """Which secrets are in what was written there."""
    return [f"{name}: {secret!r} in {where}" for name, secret in SECRETS.items() if secret.encode() in data]


def leaks_of(folder):
    """Which secrets are in the files of a folder, in their names, too."""
    others = {folder / ".git", folder / "out"}  # what git and the trainer itself have written
    files = [path for path in folder.rglob("*") if path.is_file() and others.isdisjoint(path.parents)]
    assert files
    found = [leak for path in files for leak in leaks(str(path.relative_to(folder)).encode(), path)]
    return found + [leak for path in files for leak in leaks(path.read_bytes(), path)]


def test_there_are_enough_of_them():
    """Each is another one, and none is part of another."""
    assert len(SECRETS) > 60
    values = list(SECRETS.values())
    assert not [a for a in values for b in values if a is not b and a in b]


def test_it_was_the_run_that_it_should_be(trained):
    """It went through all that could tell: three steps, metrics of its own, failing rules, a bad end."""
    table = ingest_runs(trained.journal)
    assert table["step"].max() == 3
    events = [json.loads(line) for line in trained.journal.read_bytes().splitlines()]
    assert events[-1]["model_info"]["status"] == "FAILED"
    assert {event["kind"] for event in events} >= {"run", "metrics", "alert", "end"}
    fired = {event["model_info"]["alert"]["rule"] for event in events if event["kind"] == "alert"}
    assert fired >= {"careless", "leaky"}
    for said in ("RLDK failed to call on_alert", "the health rule broken failed", "careless"):
        assert said in trained.said.lower() or said in trained.said
    names = {
        path.name.removeprefix(trained.journal.name.removesuffix("_events.jsonl")) for path in _ours(trained)
    }
    assert names >= {
        *("_events.jsonl", "_metrics.csv", "_alerts.json", "_final_report.json", "_report.html"),
        *("_post_mortem.md", "_mlflow.cursor", "_wandb.cursor"),
    }


def _ours(trained):
    return list((trained.folder / "rldk").iterdir())


def test_no_file_of_rldks_holds_one(trained):
    """Journal, table, alerts, reports, page, post-mortem, cursors, locks, long format: bytes and names."""
    assert leaks_of(trained.folder / "rldk") == []


def test_no_line_that_was_said_holds_one(trained):
    """The log at level DEBUG, with its tracebacks."""
    assert leaks(trained.said.encode(), "the log") == []


def test_nothing_that_mlflow_was_sent_holds_one(trained):
    """The database's bytes, the files' bytes, and what the server itself has logged."""
    assert leaks_of(trained.server) == []


def test_nothing_that_wandb_was_told_holds_one(trained):
    """The record's bytes, its decoded pieces, the files beside it, and those that wait to be uploaded."""
    assert leaks_of(trained.folder) == []
    assert list(trained.folder.rglob("artifacts/staging/*"))
    (record,) = trained.folder.glob("wandb/offline-run-*/*.wandb")
    pieces = b"".join(repr(fields).encode() for fields, _ in records(record, Damage()))
    assert b"rldk/" in pieces
    assert leaks(pieces, record) == []


def test_false_friends_are_there(trained):
    """In the journal, in the report, in MLflow's parameters and in W&B's config."""
    events = [json.loads(line) for line in trained.journal.read_bytes().splitlines()]
    args = events[0]["model_info"]["args"]
    assert args["friends"] == FRIENDS
    assert args["hub_model_id"] == "acme/policy"
    assert "pad_token" in args
    assert any("pad_token_frac" in event["metrics"] for event in events)
    database = (trained.server / "mlflow.db").read_bytes()
    (record,) = trained.folder.glob("wandb/offline-run-*/*.wandb")
    for name, value in FRIENDS.items():
        assert name.encode() in database
        assert value.encode() in database
        assert (
            value.encode() in record.read_bytes() or json.dumps(value)[1:-1].encode() in record.read_bytes()
        )


COMMANDS = {
    "ingest {journal}": {0},
    "ingest {journal} --json": {0},
    "ingest {journal} -o {out}/table.csv": {0},
    "ingest {journal} -o {out}/table.jsonl": {0},
    "ingest {journal} -o {out}/data": {0},
    "ingest {run}": {0},
    "ingest {run} --json": {0},
    "ingest {lines} --json": {0},
    "ingest {tracker}#runs/nobody --debug": {3},
    "ingest https://me:{password}@127.0.0.1:1/x.csv": {3},
    "check {journal} --json": {0},
    "check {journal}": {0},
    "check {run} --rules {rules}": {0},
    "check {lines} --rules {rules} --json": {0},
    "explain {journal}": {0},
    "explain {journal} --json": {0},
    "explain leaky --rules {rules}": {0},
    "report {journal} -o {out}/report": {0},
    "report {run} -o {out}/report-of-mlflow --json": {0},
    "report {lines} -o {out}/report-of-lines": {0},
    "verify {journal} {run}": {0},
    "verify {journal} {run} --json": {0},
    "verify {journal} {tracker}#runs/nobody": {3},
    "sync {journal} --to mlflow --json": {0},
    "sync {run} --to mlflow --into copies --dry-run": {0},
    "sync {run} --to mlflow --into copies": {0},
    "sync {wandb} --to mlflow --into copies": {0},
    "sync {lines} --to wandb": {0},
    "sync http://me:{password}@127.0.0.1:1/#runs/x --to mlflow --patience 0": {3},
    "diff {journal} {run}": {0},
    "diff {journal} {run} --json": {0},
    "tail {journal} --json": {1},  # the run has failed
    "doctor": {0, 1},  # as the machine is that runs the tests
    "doctor --json": {0, 1},
}
"""What is asked, and the exit codes that are right: 0 fine, 1 a finding, 3 it could not be read."""


def test_no_command_says_one(trained, tmp_path, monkeypatch):
    """Whatever is asked of the run's homes: on the terminal, as JSON, in files, in copies that are kept."""
    for name, value in {**VARIABLES, **QUIET_MLFLOW, "MLFLOW_TRACKING_URI": trained.tracker}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)
    events = [json.loads(line) for line in trained.journal.read_bytes().splitlines()]
    run_id = events[0]["model_info"]["tracker_runs"]["mlflow"]
    places = {
        "journal": trained.journal,
        "lines": trained.folder / "rldk" / "lines.jsonl",
        "run": f"{trained.tracker}#runs/{run_id}",
        "tracker": trained.tracker,
        "wandb": next(trained.folder.glob("wandb/offline-run-*")),
        "rules": trained.rules,
        "out": tmp_path,
        "password": NAMED["server"],
    }
    found, unexpected = [], []
    for command, codes in COMMANDS.items():
        done = CliRunner().invoke(app, [word.format(**places) for word in command.split()])
        shown = done.stdout + done.stderr
        if done.exit_code not in codes:
            unexpected.append((command, done.exit_code, done.stderr[-300:]))
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        found += leaks(shown.encode(), command)
    assert unexpected == []
    assert found == []
    assert leaks_of(tmp_path) == []
    assert list(tmp_path.rglob("cache/rldk/sync/*/*_events.jsonl"))
