"""The demo is a real training run that all three homes give back value by value."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from rldk.ingest import ingest_runs

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

RLDK = [sys.executable, "-m", "rldk"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run `rldk demo` once; gives its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [*RLDK, "demo", "--output", str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def tables(demo):
    """The run as each home gives it back."""
    folder, printed = demo
    (journal,) = (folder / "journal").glob("*_events.jsonl")
    (offline,) = (folder / "wandb").glob("offline-run-*")
    run = re.search(r"sqlite:\S+#runs/\w+", printed)
    return {"journal": ingest_runs(journal), "wandb": ingest_runs(offline), "mlflow": ingest_runs(run[0])}


@pytest.mark.parametrize("home", ["wandb", "mlflow"])
def test_every_value_of_every_step_agrees(tables, home):
    """Cell by cell, with NaN, the infinities and missing values told apart."""
    ours, theirs = tables["journal"], tables[home]
    assert list(ours.columns) == list(theirs.columns)
    assert len(ours) == len(theirs)
    for name in ours.columns:
        for mine, other in zip(ours[name], theirs[name], strict=True):
            assert repr(mine) == repr(other), name


def test_the_run_is_long_enough_to_mean_something(tables):
    """At least 40 training steps and two evaluations, with values that differ."""
    table = tables["journal"]
    assert (table["phase"] == "train").sum() >= 40
    assert (table["phase"] == "eval").sum() >= 2
    assert table["grad_norm"].nunique() > 30


def test_nan_and_missing_are_part_of_it(tables):
    """The run holds a measured NaN, and steps on which the reward was not measured."""
    table = tables["journal"]
    gain = table["reward_gain_per_kl"]
    assert any(isinstance(v, float) and math.isnan(v) for v in gain)
    assert gain.isna().any()
    assert table["reward_mean"].isna().sum() >= 10


def test_it_says_where_everything_is(demo):
    """Journal, database with the command for its UI, and W&B folder are printed."""
    folder, printed = demo
    assert f"mlflow server --backend-store-uri sqlite:///{folder / 'mlflow.db'}" in printed
    assert str(folder / "journal") in printed
    assert str(folder / "wandb" / "offline-run-") in printed
    assert "agree on every value" in printed


def test_a_server_on_the_demos_database_shows_the_run(demo, serve_mlflow):
    """The MLflow server has the metrics as histories of steps, and the journal among the artifacts."""
    folder, printed = demo
    run_id = re.search(r"sqlite:\S+#runs/(\w+)", printed)[1]
    with serve_mlflow(folder / "mlflow.db") as address:
        run = ask(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]
        history = ask(f"{address}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=rldk/loss")
        files = ask(f"{address}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path=rldk")["files"]
    shown = {metric["key"] for metric in run["data"]["metrics"]}
    assert {"rldk/reward_mean", "rldk/kl_mean", "rldk/eval/loss", "rldk/health/nonfinite_count"} <= shown
    assert [point["step"] for point in history["metrics"]] == list(range(1, 41))
    (journal,) = (folder / "journal").glob("*_events.jsonl")
    sizes = {Path(file["path"]).name: int(file["file_size"]) for file in files}
    assert sizes[journal.name] == journal.stat().st_size


def ask(url):
    """Get JSON."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def test_a_disagreement_is_exit_code_1(demo, monkeypatch, tmp_path):
    """A tracker that altered one value is told, by name, and the command fails."""
    from typer.testing import CliRunner

    from rldk import cli
    from rldk import demo as the_demo
    from rldk.bridge import Home
    from rldk.delivery import DeliveryReport

    folder, _ = demo
    (journal,) = (folder / "journal").glob("*_events.jsonl")
    altered = tmp_path / "altered.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    place = next(i for i, event in enumerate(events) if "grad_norm" in event["metrics"])
    events[place]["metrics"]["grad_norm"] += 1e-9
    altered.write_text("".join([*lines[:place], json.dumps(events[place]) + "\n", *lines[place + 1 :]]))
    home = Home("mlflow", "x", str(altered))
    counts = {"delivered": 1, "rejected": 0, "waiting": 0, "is_closed": True, "reasons": ()}
    report = DeliveryReport(tracker="mlflow", home=home, **counts)
    run = the_demo.DemoRun("x", journal, [report])
    monkeypatch.setattr(the_demo, "train", lambda *_, **__: run)
    result = CliRunner().invoke(cli.app, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert re.search(r"grad_norm.*1 differ", result.output)


def test_a_tracker_that_got_nothing_is_exit_code_1(demo, monkeypatch, tmp_path):
    """A home that was asked for and is not there is no agreement."""
    from typer.testing import CliRunner

    from rldk import cli
    from rldk import demo as the_demo
    from rldk.delivery import DeliveryReport

    folder, _ = demo
    (journal,) = (folder / "journal").glob("*_events.jsonl")
    counts = {"delivered": 0, "rejected": 0, "waiting": 44, "is_closed": False, "reasons": ("it was down",)}
    run = the_demo.DemoRun("x", journal, [DeliveryReport(tracker="mlflow", home=None, **counts)])
    monkeypatch.setattr(the_demo, "train", lambda *_, **__: run)
    result = CliRunner().invoke(cli.app, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "mlflow: it was down" in result.output


def test_a_folder_of_any_name_will_do(tmp_path):
    """Spaces and signs in the path are in nobody's way."""
    folder = tmp_path / "my demo #1"
    command = [*RLDK, "demo", "--tracker", "mlflow", "--output", str(folder), "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"'sqlite:///{folder}/mlflow.db'" in done.stdout.replace("\n", "")


def test_a_killed_demo_leaves_a_journal_of_whole_lines(tmp_path):
    """SIGKILL in mid-run: every complete line parses, and ingesting works."""
    command = [*RLDK, "demo", "--tracker", "none", "--output", str(tmp_path), "--steps", "200"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while count_lines(tmp_path) < 10:
            assert process.poll() is None, "the demo ended by itself"
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    (journal,) = (tmp_path / "journal").glob("*_events.jsonl")
    whole = journal.read_bytes().rpartition(b"\n")[0]
    events = [json.loads(line) for line in whole.splitlines()]
    assert all(event["v"] == 1 for event in events)
    assert len(ingest_runs(journal)) == sum(event["kind"] == "metrics" for event in events) > 0


def count_lines(folder):
    """Lines that the journal in a demo's folder has by now."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("journal/*_events.jsonl"))


@pytest.mark.parametrize("arguments", [["--tracker", "tensorbord"], ["--steps", "1"], ["--steps", "many"]])
def test_wrong_usage_is_exit_code_2(arguments):
    """The message tells what is allowed."""
    done = subprocess.run([*RLDK, "demo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Invalid value" in done.stderr
