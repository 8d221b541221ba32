"""What a rule says reaches people through W&B's own alerts: once, and at no cost to its row."""

from __future__ import annotations

import pytest
import wandb

from rldk.bridge import Receipt
from rldk.errors import SinkClosedError, SinkLostError
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges import _alerts
from tests.bridges._wandb_runs import (
    RUN,
    deliver,
    event,
    finished,
    forget_wandb,
    go_on,
    kill_core,
    plain,
    protobuf_records,
    read_back,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

ASK = "NotifyScriptableRunAlert"


def alert(at, step, severity="warning", **said):
    """An alert of the run."""
    return _alerts.alert(event, at, step, severity, **said)


def alerts_in(folder):
    """The alerts in all fragments of the run, oldest first."""
    files = sorted(folder.glob("wandb/*run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [record.alert for file in files for record in protobuf_records(file) if record.HasField("alert")]


def test_what_begins_or_gets_worse_is_sent_and_what_is_over_is_not(tmp_path):
    """With the severity as the level, and what to do; and it reads back as it was."""
    events = [
        alert(1, 12, "info"),
        alert(2, 14, "warning"),
        alert(3, 16, "critical"),
        alert(4, 20, "critical", state="ok", verdict="ok"),
    ]
    read = read_back(deliver(RUN, events).source)
    sent = alerts_in(tmp_path)
    assert [(a.title, a.level) for a in sent] == [
        ("KL drift (info)", "INFO"),
        ("KL drift (warning)", "WARN"),
        ("KL drift (critical)", "ERROR"),
    ]
    assert sent[0].text.split("\n\n") == [
        "Step 12: KL drift: 0.83 nats/token at step 12",
        "Advice: Lower the learning rate",
        "Source: https://example.org/kl",
        "RLDK rule kl_drift",
    ]
    assert [(e.kind, e.step, e.metrics) for e in read] == [(e.kind, e.step, e.metrics) for e in events]


def test_no_alert_is_held_back(tmp_path):
    """W&B holds back alerts of one title for a minute, unless it is told a shorter time than none."""
    deliver(RUN, [alert(1, 12), alert(2, 14)])
    assert [a.wait_duration for a in alerts_in(tmp_path)] == [1, 1]


def test_wandb_still_takes_no_wait_for_a_minute(tmp_path):
    """The quirk that the sink copes with; when this fails, it can say 0."""
    with wandb.init() as run:
        run.alert("a", "b", wait_duration=0)
    finished(run)
    assert [a.wait_duration for a in alerts_in(tmp_path)] == [60_000]


def test_titles_and_texts_of_any_length_fit(tmp_path):
    """W&B wants titles of less than 64 characters; the severity stays in sight."""
    deliver(RUN, [alert(1, 12, title="KL\n" * 50, message="x" * 9000 + "\udcff")])
    (sent,) = alerts_in(tmp_path)
    assert (len(sent.title), len(sent.text)) == (63, 2000)
    assert sent.title.endswith("… (warning)")


def test_a_batch_that_broke_off_sends_no_alert_twice(tmp_path):
    """Neither the alert before the break nor the one whose row failed."""
    events = [alert(1, 12), alert(2, 14, "critical"), event(3, metrics={"loss": 1})]
    sink = WandbSink.create()
    sink.open(RUN)
    sink._run = Failing(sink._run, "log", at=2)
    with pytest.raises(ConnectionError):
        sink.send(events)
    deliver(RUN, events, sink)
    assert [a.level for a in alerts_in(tmp_path)] == ["WARN", "ERROR"]


def test_an_alert_that_breaks_the_connection_is_tried_again(tmp_path):
    """With its row, which was not logged yet."""
    events = [alert(1, 12), event(2, metrics={"loss": 1})]
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink._run = Failing(sink._run, "alert", at=1)
    with pytest.raises(ConnectionError):
        sink.send(events)
    deliver(RUN, events, sink)
    assert len(alerts_in(tmp_path)) == 1
    assert [e.seq for e in read_back(home.source)] == [1, 2]


def test_an_alert_that_is_refused_costs_no_row(tmp_path, caplog):
    """Its number is logged, and a warning says what W&B did not take."""
    sink = WandbSink.create()
    sink.open(RUN)
    sink._run = Failing(sink._run, "alert", at=1, error=ValueError("no"))
    home = deliver(RUN, [alert(1, 12), alert(2, 14, "critical")], sink)
    assert [e.metrics for e in read_back(home.source)] == [{"kl_drift": 2}, {"kl_drift": 3}]
    assert "does not take the alert 'KL drift (warning)': no" in caplog.text
    assert len(alerts_in(tmp_path)) == 1


class Failing:
    """A run of which one call of a method fails."""

    def __init__(self, run, method, at, error=None):
        self._run, self._method, self._left = run, method, at
        self._error = error or ConnectionError()

    def __getattr__(self, name):
        found = getattr(self._run, name)
        return self._counted(found) if name == self._method else found

    def _counted(self, call):
        def counted(*args, **kwargs):
            self._left -= 1
            if self._left == 0:
                raise self._error
            return call(*args, **kwargs)

        return counted


def test_a_run_that_is_gone_on_with_sends_no_alert_again(tmp_path):
    """What the run's files hold has its alert there."""
    events = [alert(1, 12), alert(2, 14, "critical")]
    go_on(RUN, events[:1])
    forget_wandb()
    go_on(RUN, events)
    assert [a.level for a in alerts_in(tmp_path)] == ["WARN", "ERROR"]


def test_an_alert_that_died_with_its_row_is_written_with_it_again(tmp_path):
    """Killed before it wrote anything, wandb-core took both with it."""
    events = [alert(1, 12), alert(2, 14, "critical")]
    sink = WandbSink.create()
    sink.open(RUN)
    sink.send(events)
    kill_core()
    with pytest.raises(SinkLostError):
        sink.send([event(3, metrics={"loss": 1})])
    home = sink.open(RUN)
    held = sink.settle(None)
    sink.send([e for e in events if e.time > held])
    sink.close("FINISHED", [])
    assert [e.seq for e in WandbAdapter(home.source).events() if e.kind == "alert"] == [1, 2]
    assert [a.level for a in alerts_in(tmp_path)] == ["WARN", "ERROR"]


def test_a_server_gets_each_alert_once(wandb_backend):
    """Also where it has lost the rows, which are sent again: the alert it got at once."""
    events = [alert(1, 12), alert(2, 14, "critical")]
    home = deliver(RUN, events)
    assert wandb_backend.operations.count(ASK) == 2
    wandb_backend.run("rosy-run").lines.clear()
    forget_wandb()
    go_on(RUN, [*events, alert(3, 18, rule="stall")], Receipt(source=home.source, at=events[-1].time, base=0))
    assert [row["rldk/seq"] for row in wandb_backend.rows("rosy-run")] == [1, 2, 3]
    assert wandb_backend.operations.count(ASK) == 3


def test_a_server_that_refuses_alerts_costs_no_row(wandb_backend):
    """wandb-core gives the alert up, and goes on."""
    wandb_backend.faults.answer(ASK, 400)
    deliver(RUN, [alert(1, 12), event(2, metrics={"loss": 1})])
    assert [row["rldk/seq"] for row in wandb_backend.rows("rosy-run")] == [1, 2]


def test_a_run_that_somebody_has_finished_takes_no_alert():
    """It is closed for alerts as it is for rows."""
    run = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    run.finish()
    with pytest.raises(SinkClosedError, match="W&B takes no more data"):
        sink.send([alert(1, 12)])


def test_an_alert_that_comes_from_a_tracker_is_its_row_alone(tmp_path):
    """Without what it said there is nothing to send; nor where a journal holds something odd."""
    events = [
        event(1, kind="alert", metrics={"kl_drift": 2}),
        event(2, kind="alert", metrics={"kl_drift": 2}, model_info={"alert": "text"}),
        event(3, kind="alert", metrics={"kl_drift": 2}, model_info={"alert": {}}),
    ]
    read = read_back(deliver(RUN, events).source)
    assert [plain(e)["metrics"] for e in read] == [plain(e)["metrics"] for e in events]
    assert alerts_in(tmp_path) == []
