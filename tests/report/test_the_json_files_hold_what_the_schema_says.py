"""final_report.json and alerts.json are strict JSON of the schema, and say what happened."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given, settings

from rldk.report.documents import alerts_file, as_json, final_report
from rldk.report.outputs import write_all
from rldk.report.schema import AlertsFile, FinalReport
from rldk.report.story import Story
from rldk.testing import runs as hostile
from tests.report._page import decoded
from tests.report._runs import BEGAN, HEALTH, alert, event, eventful, quick


def refuse(constant):
    """What JSON does not have."""
    raise AssertionError(constant)


@pytest.fixture(scope="module")
def report():
    """The final report of a run in which much happened."""
    return msgspec.json.decode(as_json(final_report(Story.of(eventful()))), type=FinalReport)


def test_both_files_are_strict_json_of_their_schema(tmp_path):
    """No NaN, and no field that is not declared."""
    write_all(Story.of(list(eventful())[:30]), tmp_path)
    for name, part in (("final_report", FinalReport), ("alerts", AlertsFile)):
        path = tmp_path / f"abc123_{name}.json"
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        assert decoded(path, part).schema == 1


def test_the_run_is_told(report):
    """Who, when, how long, and how it ended."""
    run = report.run
    assert (run.run_id, run.name, run.status, run.seed, run.git_sha) == (
        "abc123",
        "maths",
        "FAILED",
        42,
        "0123abc",
    )
    assert (run.began_time, run.ended_time, run.duration_s) == (BEGAN, BEGAN + 24.5, 24.5)
    assert (run.began, run.ended) == ("2025-11-22T21:40:00.000Z", "2025-11-22T21:40:24.500Z")
    assert (run.steps.first, run.steps.last, run.steps.count, run.segments) == (1, 12, 12, 1)
    assert (report.trainer, report.versions, report.host) == ("GRPO", {"trl": "1.16.0"}, {"cpus": 8})
    assert report.stopped_by == "kl_drift@6"


def test_main_metrics_are_summed_up(report):
    """First, last and best by the direction that is good, slope, and what is not finite."""
    reward, norm = report.metrics["reward_mean"], report.metrics["grad_norm"]
    assert (reward.unit, reward.good, reward.count) == ("reward", "up", 12)
    assert (reward.first.value, reward.last.value, reward.best.step) == (0.1, pytest.approx(1.2), 12)
    assert reward.slope == pytest.approx(100.0)
    assert report.metrics["loss"].best.step == 12
    assert (norm.nonfinite, norm.max, norm.slope, norm.best) == (1, 1e6, 0.0, None)
    assert "own" not in report.metrics
    assert (report.evaluation["reward_mean"].nonfinite, report.evaluation["reward_mean"].last.value) == (
        3,
        "Infinity",
    )


def test_a_metric_of_another_name_is_not_taken_for_a_known_one():
    """Only an evaluation's may have a data set before its name."""
    events = [event("metrics", 1, {"own/loss": 1.0}, phase=phase) for phase in ("train", "eval")]
    report = final_report(Story.of(events))
    assert (report.metrics["own/loss"].unit, report.metrics["own/loss"].good) == ("", "")
    assert (report.evaluation["own/loss"].unit, report.evaluation["own/loss"].good) == ("1", "down")


def test_health_resources_and_checkpoints_are_told(report):
    """Rules with what cannot be judged, peaks of the GPU, and the checkpoint to go on from."""
    assert [rule.state for rule in report.health.rules] == ["ok", "unavailable", "unavailable"]
    assert report.health.verdict == "critical"
    assert report.resources.gpu_memory_peak_frac == {"gpu0": pytest.approx(0.6)}
    assert report.resources.measured["process_rss_bytes"].last == 12 * 2**30
    assert [one.good for one in report.checkpoints.saved] == [True, True, False]
    assert (
        report.checkpoints.last_good == "out/checkpoint-4"
    )  # the alert became critical at 8, and began at 6
    assert report.checkpoints.saved[-1].findings == ["7 are NaN"]


def test_an_alert_lasts_from_its_first_event_until_it_is_over():
    """One that gets worse stays one, of the worst severity."""
    told = alerts_file(Story.of([*eventful(), alert(20)])).alerts
    assert [(a.id, a.severity, a.state, a.until_step) for a in told] == [
        ("kl_drift@6", "critical", "ok", 9),
        ("kl_drift@20", "warning", "firing", None),
    ]
    assert told[0].message == "KL drift: it is critical at step 8"
    assert (told[0].time, told[0].wall_time) == (BEGAN + 12.4, 12.4)


def test_a_healthy_run_has_an_empty_list(tmp_path):
    """The file is there all the same."""
    write_all(Story.of(quick()), tmp_path)
    assert decoded(tmp_path / "abc123_alerts.json", AlertsFile).alerts == []


def test_a_run_without_an_end_tells_its_last_word():
    """No status; its health is what is given, or what the last alert has of it."""
    story = Story.of(e for e in eventful() if e.kind != "end")
    assert final_report(story).run.status is None
    assert final_report(story).health.verdict == "critical"
    assert final_report(story, health={**HEALTH, "verdict": "warning"}).health.verdict == "warning"


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event("run", 0, trainer="GRPO")],
        [event("metrics", 3, {"loss": math.nan})],
        [event("metrics", 2**62, {"loss": 10**400, "kl_mean": -(10**400), "lr": 2**70})],
        [event("metrics", 1, {"loss": 1e308}), event("metrics", 2, {"loss": -1e308})],
        [event("metrics", -5, {"": 5e-324}), event("checkpoint", 1), event("alert", 1, alert={})],
        [
            event("alert", 1, alert={"evidence": [1], "metrics": "x", "severity": 7}),
            event("end", 1, health=[]),
        ],
        [event("end", 1, health={"verdict": "mad", "firing": None, "rules": [{}, 7], "x": 1})],
        [
            event("run", 0, versions=7, host="x", name=["x"], trainer=None),
            event("resource", 1, {"x": math.nan}),
        ],
    ],
)
def test_odd_runs_are_told_too(tmp_path, events):
    """Nothing, numbers that no float holds, and facts of the wrong kind."""
    paths = write_all(Story.of(events, "odd"), tmp_path)
    assert len(paths) == 4
    decoded(paths[1], AlertsFile)
    decoded(paths[2], FinalReport)


@settings(max_examples=20)
@given(hostile.runs() | hostile.wide_runs())
def test_any_run_gives_valid_files(events):
    """Hostile names and numbers among them."""
    story = Story.of(events)
    for document, part in ((final_report(story), FinalReport), (alerts_file(story), AlertsFile)):
        msgspec.json.decode(as_json(document), type=part)


def test_secrets_stay_out():
    """Of what an alert or a folder's name says."""
    events = [
        event("checkpoint", 1, checkpoint="https://me:hunter22@host/checkpoint-1"),
        alert(2, message="see https://me:hunter22@host/x", evidence={"api_key": "sk-" + "a1" * 20}),
    ]
    story = Story.of(events)
    written = as_json(final_report(story)) + as_json(alerts_file(story))
    assert b"hunter22" not in written
    assert b"sk-a1" not in written
