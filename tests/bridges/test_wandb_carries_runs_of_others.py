"""A run that others have logged elsewhere keeps its names, numbers and facts in W&B, and comes back."""

from __future__ import annotations

import math

import pytest

from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    deliver,
    event,
    finished,
    plain,
    protobuf_records,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

FACTS = {
    "config": {"lr": 0.1, "nested": {"a": [1, None]}, "bad": math.nan, "dots.in": 1},
    "tags": {"plain": "", "team": "blue", "baseline": "true", "x" * 100: ""},
    "name": "tulip",
    "notes": "a note",
    "project": "greenhouse",
}
RAW = {"raw": True}
START = event(0, kind="run", rng={}, model_info=RAW | FACTS | {"run_id": "abc123"})
ROWS = [
    event(
        i,
        step=10 * i,
        rng={},
        metrics={"train/loss": i / 8, "_step": i},
        model_info=RAW | {"run_id": "abc123"},
    )
    for i in range(1, 5)
]
END = event(
    4.001,
    seq=5,
    step=40,
    kind="end",
    rng={},
    metrics={"best": 0.25, "worst": math.inf},
    model_info=RAW | {"run_id": "abc123", "status": "FINISHED"},
)


@pytest.fixture
def file(tmp_path):
    """The file of such a run."""
    deliver(START, [*ROWS, END])
    return wandb_file(tmp_path)


def test_events_come_back(file):
    """Each row, and the end with what no row tells."""
    adapter = WandbAdapter(str(file))
    _, *events = adapter.events()
    assert adapter.problems == []
    assert [comparable(e) for e in events] == [comparable(e) for e in [*ROWS, END]]


def comparable(one):
    """An event without the code that it came from, which others' have none of."""
    told = plain(one)
    told["model_info"].pop("git_sha", None)
    return told


def test_facts_come_back(file):
    """Config, all tags with their values, name, notes, project."""
    first = next(WandbAdapter(str(file)).events())
    told = {key: first.model_info[key] for key in FACTS}
    assert told == FACTS | {"config": FACTS["config"] | {"bad": "NaN"}}
    assert (first.is_raw, first.run_id) == (True, "abc123")


def test_w_and_b_shows_them(file):
    """Tags that say no more than their name are W&B's tags, the others are config beside the parameters."""
    run = WandbFile(file).run()
    assert (run.name, run.notes, run.project) == ("tulip", "a note", "greenhouse")
    assert set(run.tags) == {"plain", "baseline"}
    assert run.config["tags/team"] == "blue"
    assert run.config["lr"] == 0.1
    assert (run.summary["best"], run.summary["worst"]) == (0.25, "Infinity")


def test_their_names_have_no_prefix(file):
    """Rows have the names of old, defined over rldk/step."""
    records = list(protobuf_records(file))
    metrics = {r.metric.name: r.metric.step_metric for r in records if r.HasField("metric")}
    assert metrics["train/loss"] == "rldk/step"
    assert len(list(WandbFile(file).rows())) == len(ROWS)


def test_later_segments_are_told_too(tmp_path):
    """An event of kind run among the others adds its facts to the config."""
    more = event(9, kind="run", seq=9, step=4, model_info={"segment": 1, "config": {"lr": 0.2}})
    first = event(0, kind="run")
    deliver(first, [event(1, metrics={"a": 1}), more, event(10, metrics={"a": 2})])
    run = WandbFile(wandb_file(tmp_path)).run()
    assert (run.config["rldk/segment.1"], run.config["lr"]) == (f"{more.time}@4 seed=42 git_sha=abc123", 0.2)
    assert "run" in [e.kind for e in WandbAdapter(str(wandb_file(tmp_path))).events()][1:]


def test_somebody_elses_run_keeps_its_own(tmp_path):
    """In a run that the script has opened, names of metrics are not defined, and name and tags stay."""
    import wandb

    theirs = wandb.init(name="theirs", tags=["kept"], project="theirs")
    deliver(START, ROWS, WandbSink.attach())
    finished(theirs)
    run = WandbFile(wandb_file(tmp_path)).run()
    assert (run.name, run.tags, run.project) == ("theirs", ["kept"], "theirs")
    assert {axis.name for axis in run.axes} == {"rldk/step", "rldk/seq"}
