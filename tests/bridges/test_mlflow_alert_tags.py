"""Alerts are seen in a run's tags: the verdict, and of each rule what it said last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink
from tests.bridges._alerts import alert, end, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rldk.event import Event

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


def sent(run: Event, events: Sequence[Event], sink: MLflowSink | None = None) -> dict[str, str]:
    """Deliver some events; the run's tags on its health."""
    sink = sink or MLflowSink.create()
    sink.open(run)
    sink.send(events)
    return health_of(sink)


def health_of(sink: MLflowSink) -> dict[str, str]:
    """The tags on health that a run has."""
    tags = mlflow.MlflowClient().get_run(str(sink.tracker_run_id)).data.tags
    names = ("rldk.health", "rldk.alert.", "rldk.stopped_by")
    return {
        name: value for name, value in tags.items() if name.startswith(names) and name != "rldk.health_at"
    }


def test_an_alert_is_a_tag_and_a_point(run: Event, event: Callable[..., Event]) -> None:
    """The verdict with the rules that fire, and what the rule says; its level stays a metric."""
    sink = MLflowSink.create()
    told = sent(run, [alert(event, 1, 12, "critical", firing=["kl_drift", "stall"])], sink)
    assert told == {
        "rldk.health": "critical: kl_drift, stall",
        "rldk.alert.kl_drift": "critical at step 12: KL drift: 0.83 nats/token at step 12",
    }
    [point] = mlflow.MlflowClient().get_metric_history(str(sink.tracker_run_id), "rldk/alert/kl_drift")
    assert (point.value, point.step) == (3, 12)


def test_an_alert_that_is_over_says_since_when_it_was(run: Event, event: Callable[..., Event]) -> None:
    """Its tag tells both steps, and the verdict is of now."""
    over = alert(event, 2, 20, since_step=12, state="ok", verdict="ok")
    assert sent(run, [alert(event, 1, 12), over]) == {
        "rldk.health": "ok",
        "rldk.alert.kl_drift": "over at step 20 (was warning since step 12)",
    }


def test_what_is_sent_again_changes_nothing_back(run: Event, event: Callable[..., Event]) -> None:
    """A batch that is repeated, by the same process or the next one, does not overwrite what is newer."""
    first, second = alert(event, 1, 12), alert(event, 2, 14, "critical")
    sink = MLflowSink.create()
    told = sent(run, [first, second], sink)
    sink.send([first])
    assert health_of(sink) == told
    assert sent(run, [first]) == told
    assert told["rldk.health"] == "critical: kl_drift"


def test_a_stamp_that_somebody_edited_stops_nothing(run: Event, event: Callable[..., Event]) -> None:
    """Then the tags are written anew."""
    sink = MLflowSink.create()
    sent(run, [alert(event, 1, 12)], sink)
    mlflow.MlflowClient().set_tag(str(sink.tracker_run_id), "rldk.health_at", "yesterday")
    assert sent(run, [alert(event, 2, 14, "critical")])["rldk.health"] == "critical: kl_drift"


def test_any_name_and_any_length_can_be_told(run: Event, event: Callable[..., Event]) -> None:
    """A user's rule may be called anything, and say anything, of any length."""
    names = ["my rule (v2): 100%", "/", "..", "ä" * 300, ""]
    events = [
        alert(event, n, 12, rule=name, message="x" * 9000 + "\udcff") for n, name in enumerate(names, start=1)
    ]
    told = sent(run, events)
    tags = [value for name, value in told.items() if name.startswith("rldk.alert.")]
    assert "rldk.alert.my rule _x0028_v2_x0029_: 100_x0025_" in told
    assert len(tags) == len(names)
    assert all(len(tag) == 8000 and tag.endswith(" … (whole in the journal)") for tag in tags)


def test_more_rules_than_a_request_takes_tags(run: Event, event: Callable[..., Event]) -> None:
    """MLflow takes a hundred tags a request."""
    assert len(sent(run, [alert(event, n, n, rule=f"rule_{n}") for n in range(1, 151)])) == 151


def test_the_end_has_the_last_word(run: Event, event: Callable[..., Event]) -> None:
    """The verdict is the worst that the run reached, whatever fires at its end; and which rule stopped it."""
    rules = [judged(severity="critical", state="ok"), judged("stall", severity="warning", state="ok")]
    over = alert(event, 1, 20, state="ok", verdict="ok")
    told = sent(run, [over, end(event, 2, *rules, verdict="critical", stopped_by="kl_drift@12")])
    assert told["rldk.health"] == "critical: kl_drift (over)"
    assert told["rldk.stopped_by"] == "kl_drift@12"


def test_a_run_that_went_on_after_a_stop_was_not_stopped(run: Event, event: Callable[..., Event]) -> None:
    """When it is resumed and ends by itself, the tag of the stop is empty."""
    stopped = end(event, 1, judged(severity="critical"), verdict="critical", stopped_by="kl_drift@12")
    assert sent(run, [stopped])["rldk.stopped_by"] == "kl_drift@12"
    resumed = event(2, kind="run", step=10, model_info={"segment": 1})
    assert sent(resumed, [end(event, 3)]) == {"rldk.health": "ok", "rldk.stopped_by": ""}


def test_an_alert_that_comes_from_a_tracker_is_its_point_alone(
    run: Event, event: Callable[..., Event]
) -> None:
    """Without what it said there is no tag."""
    assert sent(run, [event(1, kind="alert", metrics={"kl_drift": 2})]) == {}


def test_odd_alerts_stop_nothing(run: Event, event: Callable[..., Event]) -> None:
    """A journal of somebody else's may hold anything."""
    odd = [
        event(1, kind="alert", metrics={"a": 1}, model_info={"alert": "text"}),
        event(2, kind="alert", metrics={"a": 1}, model_info={"alert": {}}),
        event(3, kind="end", model_info={"health": {"rules": [1, {}], "firing": 3}}),
        event(4, kind="end", model_info={"health": {"rules": {"a": 1}, "verdict": None}}),
    ]
    assert sent(run, odd)["rldk.health"] == "None"


def test_tags_do_not_disturb_reading(run: Event, event: Callable[..., Event]) -> None:
    """The run reads back as without them: alerts, checkpoints, no tag, no note."""
    norm = {"norm": float("nan"), "nonfinite_count": 2, "relative_change": 0.25}
    events = [
        alert(event, 1, 12),
        event(2, kind="checkpoint", step=50, metrics=norm, model_info={"checkpoint": "checkpoint-50"}),
        end(event, 3, judged(), verdict="warning"),
    ]
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send(events)
    first, *rest = MLflowAdapter(home.source).events()
    assert not {"tags", "notes"} & first.model_info.keys()
    assert [(e.kind, e.step, repr(e.metrics)) for e in rest] == [
        ("alert", 12, "{'kl_drift': 2.0}"),
        ("checkpoint", 50, repr({"nonfinite_count": 2.0, "norm": float("nan"), "relative_change": 0.25})),
    ]


def test_tags_that_are_refused_cost_no_point(
    run: Event, event: Callable[..., Event], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where MLflow does not take the text, the alert's number is there, and a warning says so."""
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    monkeypatch.setattr("rldk_mlflow.told.MAX_TAG", 9000)
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([alert(event, 1, 12, message="x" * 9000), event(2, metrics={"loss": 1})])
    assert "does not take what is said of its health" in caplog.text
    assert len(list(MLflowAdapter(home.source).events())) == 3


@pytest.mark.usefixtures("mlflow_server")
def test_a_server_takes_them_too(run: Event, event: Callable[..., Event]) -> None:
    """Over HTTP the tags are the same."""
    told = sent(run, [alert(event, 1, 12), end(event, 2, judged(), verdict="warning")])
    assert told["rldk.health"] == "warning: kl_drift"
