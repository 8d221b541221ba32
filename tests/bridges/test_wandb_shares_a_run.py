"""In a run that others log to as well, nothing is lost and nothing is mixed."""

from __future__ import annotations

import pytest
import wandb

from rldk.errors import SinkClosedError
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    deliver,
    event,
    forget_wandb,
    plain,
    protobuf_records,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

EVENTS = [event(i, step=10 * i, metrics={"kl_mean": i / 8, f"only_at_{i}": i}) for i in range(1, 30)]


@pytest.fixture
def shared_file(tmp_path):
    """What is in the file when transformers, the user and RLDK have logged to one run."""
    theirs = wandb.init()
    theirs.define_metric("train/global_step")
    theirs.define_metric("*", step_metric="train/global_step", step_sync=True)
    sink = WandbSink.attach()
    sink.open(RUN)
    for one in EVENTS:
        theirs.log({"train/loss": one.step / 7, "train/global_step": one.step})
        sink.send([one])
        theirs.log({"completions": wandb.Table(columns=["text"], data=[["hello"]])} if one.step == 50 else {})
    sink.close("FINISHED", [])
    theirs.finish()
    forget_wandb()
    return wandb_file(tmp_path)


def test_all_events_come_back(shared_file):
    """Each event is there, with its own numbers only."""
    adapter = WandbAdapter(str(shared_file))
    ours = [plain(e) for e in adapter.events() if not e.is_raw and e.kind != "run"]
    assert ours == [plain(e) for e in EVENTS]


def test_their_rows_are_untouched(shared_file):
    """No RLDK key gets into a row of theirs, no row of theirs is missing, and ours hold no key of theirs."""
    rows = [
        {"/".join(item.nested_key) for item in record.history.item} - {"_step", "_runtime", "_timestamp"}
        for record in protobuf_records(shared_file)
        if record.HasField("history")
    ]
    ours = [row for row in rows if "rldk/seq" in row]
    assert all(key.startswith("rldk/") for row in ours for key in row)
    assert sum("train/loss" in row for row in rows) == len(EVENTS) == len(ours)
    assert not any(key.startswith("rldk/") for row in rows if row not in ours for key in row)


def test_each_metric_has_its_own_definition(shared_file):
    """Every metric is defined by its exact name over rldk/step, and both axes are hidden."""
    metrics = [record.metric for record in protobuf_records(shared_file) if record.HasField("metric")]
    ours = {metric.name: metric for metric in metrics if metric.name.startswith("rldk/")}
    hidden = {name for name, metric in ours.items() if metric.options.hidden}
    names = {f"rldk/{name}" for one in EVENTS for name in one.metrics}
    assert [metric.glob_name for metric in metrics if metric.glob_name] == ["*"]
    assert hidden == {"rldk/step", "rldk/seq"}
    assert {name: metric.step_metric for name, metric in ours.items()} == (
        dict.fromkeys(names, "rldk/step") | dict.fromkeys(hidden, "")
    )
    assert not any(metric.options.step_sync for metric in ours.values())


def test_an_attached_run_is_left_open():
    """Closing the sink does not finish a run that someone else has opened."""
    with wandb.init() as theirs:
        sink = WandbSink.attach()
        assert sink.tracker_run_id == theirs.id
        deliver(RUN, EVENTS[:1], sink)
        theirs.log({"still": "open"})


def test_a_finished_run_refuses_for_good():
    """When the script has finished its run, our events are refused with the reason and what to do."""
    theirs = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    theirs.finish()
    with pytest.raises(SinkClosedError, match=r"is finished.*in the journal; finish the run after"):
        sink.send(EVENTS)


def test_only_a_live_run_is_attached():
    """There is no run to attach before wandb.init, after finish, or where W&B is disabled."""
    assert WandbSink.attach() is None
    wandb.init().finish()
    assert WandbSink.attach() is None
    disabled = wandb.init(mode="disabled")
    assert wandb.run is disabled
    assert WandbSink.attach() is None
    disabled.finish()
