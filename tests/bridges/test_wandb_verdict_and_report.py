"""A W&B run shows its verdict and its report, and reads back as without them."""

from __future__ import annotations

import pytest
import wandb

from rldk.errors import SinkClosedError
from rldk.journal import Journal
from rldk.verify import verify
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._alerts import alert, end, judged
from tests.bridges._wandb_runs import (
    RUN,
    event,
    finished,
    forget_wandb,
    go_on,
    read_back,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

ROW = event(1, step=10, metrics={"loss": 0.5})


@pytest.fixture
def report(tmp_path):
    """The page that RLDK writes at the end."""
    path = tmp_path / "rosy-run_report.html"
    path.write_text("<html><head></head><p>All is well</p></html>")
    return path


def shown(file):
    """What of RLDK's the summary says that is no number."""
    return {k: v for k, v in WandbFile(file).run().summary.items() if isinstance(v, str)}


def delivered(events, *files):
    """Deliver a run of our own; its folder."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.send(events)
    sink.close("FINISHED", files)
    return home.source


def test_the_table_of_runs_tells_the_verdict(tmp_path):
    """The verdict alone, to filter and group by; the rules that fire; and what each of them said last."""
    delivered([alert(event, 1, 12), alert(event, 2, 14, "critical", firing=["kl_drift", "stall"])])
    assert shown(wandb_file(tmp_path)) == {
        "rldk/health": "critical",
        "rldk/health_rules": "kl_drift, stall",
        "rldk/health/kl_drift": "critical at step 14: KL drift: 0.83 nats/token at step 14",
    }


def test_the_end_has_the_last_word(tmp_path):
    """The worst that the run reached, and what stopped it."""
    over = judged(state="ok", severity="critical")
    delivered([end(event, 1, over, verdict="critical", stopped_by="kl_drift@12")])
    assert shown(wandb_file(tmp_path)) == {
        "rldk/health": "critical",
        "rldk/health_rules": "kl_drift (over)",
        "rldk/stopped_by": "kl_drift@12",
    }


def test_a_run_that_went_on_after_a_stop_was_not_stopped(wandb_backend):
    """When it ends by itself, nothing has stopped it."""
    stopped = end(event, 1, judged(severity="critical"), verdict="critical", stopped_by="kl_drift@12")
    go_on(RUN, [stopped])
    forget_wandb()
    resumed = event(2, kind="run", step=10, model_info={"segment": 1})
    go_on(resumed, [stopped, end(event, 3, segment=1)])
    told = wandb_backend.run("rosy-run").summary
    assert (told["rldk/health"], told["rldk/health_rules"], told["rldk/stopped_by"]) == ("ok", "", "")


def test_what_is_shown_is_not_read(tmp_path, report):
    """Verdict and report add nothing: not an event, not a number, not a file, not a doubt."""
    events = [ROW, alert(event, 2, 12), end(event, 3, judged(), verdict="warning")]
    source = delivered(events, report)
    assert [(e.kind, e.metrics) for e in read_back(source)] == [
        ("metrics", {"loss": 0.5}),
        ("alert", {"kl_drift": 2}),
    ]
    *_, last = WandbAdapter(source).events()
    assert (last.metrics, last.is_raw) == ({}, True)
    fetched = WandbAdapter(source).files(tmp_path / "into")
    assert [path.name for path in fetched] == ["wandb-files", report.name]
    assert not list((tmp_path / "into" / "wandb-files").rglob("*.html"))


def test_the_report_opens_in_the_workspace(tmp_path, report):
    """As it was written, at the last step, beside the artifact."""
    delivered([ROW], report)
    file = wandb_file(tmp_path)
    [row] = [row for row in WandbFile(file).rows() if "rldk/report" in row]
    assert (row["rldk/report"]["_type"], row["rldk/step"]) == ("html-file", 10)
    assert (file.parent / "files" / row["rldk/report"]["path"]).read_text() == report.read_text()
    [artifact] = WandbFile(file).run().artifacts.values()
    assert list(artifact.files) == [report.name]


def test_somebody_else_s_steps_do_not_get_into_its_row(report):
    """The callback of transformers defines "*" so that W&B adds its step to rows of others."""
    run = wandb.init()
    run.define_metric("train/global_step")
    run.define_metric("*", step_metric="train/global_step", step_sync=True)
    run.log({"train/loss": 1, "train/global_step": 3})
    sink = WandbSink.attach()
    sink.open(RUN)
    sink.send([ROW])
    sink.close("FINISHED", [report])
    run.log({"train/loss": 2, "train/global_step": 4})
    read = read_back(finished(run))
    assert [(e.step, e.metrics) for e in read] == [
        (10, {"loss": 0.5}),
        (3, {"train/loss": 1}),
        (4, {"train/loss": 2}),
    ]


def test_a_report_that_is_missing_or_broken_fails_nothing(tmp_path, caplog):
    """The run ends as it should."""
    broken = tmp_path / "broken_report.html"
    broken.write_bytes(b"\xff\xfe\xff")
    source = delivered([ROW], tmp_path / "gone_report.html", broken)
    assert "broken_report.html cannot be shown" in caplog.text
    assert [e.metrics for e in read_back(source)] == [{"loss": 0.5}]


def test_a_close_that_is_repeated_shows_it_once(report):
    """As after a failure later in the same close."""
    run = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    for _ in range(2):
        sink.close("FINISHED", [report])
    folder = finished(run)
    assert sum("rldk/report" in row for row in WandbFile(next(folder.glob("run-*.wandb"))).rows()) == 1


def test_a_run_that_somebody_has_finished_is_left_alone(report):
    """Its end is its owner's; the files stay where they are, as the error says."""
    run = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    run.finish()
    with pytest.raises(SinkClosedError, match="finish the run after training"):
        sink.close("FINISHED", [report])


def test_a_server_gets_both_and_reads_back_as_without(wandb_backend, report):
    """Online, too."""
    source = delivered([ROW, alert(event, 2, 12)], report)
    run = wandb_backend.run("rosy-run")
    assert run.summary["rldk/health"] == "warning"
    assert [name for name in run.files if name.startswith("media/html/rldk/report")]
    assert [e.metrics for e in read_back(source)] == [{"loss": 0.5}, {"kl_drift": 2}]
    *_, last = WandbAdapter(source).events()
    assert last.metrics == {}


def test_verify_finds_no_difference(tmp_path, report):
    """Between a journal and its run with verdict and report."""
    events = [ROW, alert(event, 2, 12), end(event, 3, judged(), verdict="warning")]
    journal = Journal(tmp_path / "rosy-run_events.jsonl")
    for each in (RUN, *events):
        journal.append(each)
    journal.close()
    found = verify(str(journal.path), delivered(events, report, journal.path))
    assert (found.agrees, found.problems) == (True, [])
