"""`rldk report` makes the files again from any source, and judges what was not judged."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from rldk import event as event_json
from rldk.cli import app
from rldk.report.schema import AlertsFile, FinalReport
from tests.report._page import decoded
from tests.report._runs import RECORDINGS, event, eventful


def call(*arguments):
    """Run the command."""
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def journal(tmp_path):
    """The journal of a run in which much happened."""
    path = tmp_path / "abc123_events.jsonl"
    path.write_bytes(b"".join(event_json.encode(each) + b"\n" for each in eventful()))
    return path


def test_a_journal_keeps_its_alerts(tmp_path, journal):
    """And its health, as its end tells it."""
    done = call(journal, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.split()) == 4
    alerts = decoded(tmp_path / "out" / "abc123_alerts.json", AlertsFile).alerts
    assert [alert.id for alert in alerts] == ["kl_drift@6"]
    assert decoded(tmp_path / "out" / "abc123_final_report.json", FinalReport).run.status == "FAILED"


def test_a_run_of_others_is_judged(tmp_path):
    """A trainer_state.json in which the gradient breaks: the rule says where."""
    logs = [{"step": step, "loss": 1.0, "grad_norm": math.nan if step > 20 else 1.0} for step in range(1, 31)]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 30, "log_history": logs}))
    done = call(tmp_path / "trainer_state.json", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out").glob("*_final_report.json")
    report = decoded(path, FinalReport)
    assert report.health.verdict == "critical"
    assert report.alerts.ids == ["nonfinite@21"]
    assert report.run.began is None


def test_runs_are_chosen_by_id(tmp_path, journal):
    """Patterns count; an id that is not there is refused."""
    other = event("metrics", 1, {"loss": 1.0}, run="other")
    (tmp_path / "other_events.jsonl").write_bytes(event_json.encode(other) + b"\n")
    assert call(tmp_path, "--runs", "oth*", "--output", tmp_path / "out").exit_code == 0
    assert {path.name.partition("_")[0] for path in (tmp_path / "out").iterdir()} == {"other"}
    refused = call(tmp_path, "--runs", "nobody", "--output", tmp_path / "out")
    assert refused.exit_code == 2
    assert "abc123" in refused.output


def test_what_cannot_be_read_or_written_is_said(tmp_path, journal):
    """With the exit codes of the other commands."""
    assert call(tmp_path / "nothing.jsonl").exit_code == 3
    (tmp_path / "abc123_report.html").mkdir()
    done = call(journal, "--output", tmp_path)
    assert done.exit_code == 2
    assert "abc123_report.html" in done.output


@pytest.mark.parametrize("name", ["1.12.0_ppo_nan", "1.16.0_sft_nanloss"])
def test_recordings_of_real_trainers_get_their_files(tmp_path, name):
    """As plain JSON lines of somebody else's."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    flat = [{"step": line["global_step"], **line["logs"]} for line in lines]
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(each) + "\n" for each in flat))
    done = call(tmp_path / "run.jsonl", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").iterdir())) == 4
