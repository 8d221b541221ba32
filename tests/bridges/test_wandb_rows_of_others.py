"""What others have logged to a run is read as well, at the step over which they show it."""

from __future__ import annotations

import math

import pytest
import wandb

from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    event,
    forget_wandb,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

AT = 4e9 + 0.25  # later than any run of today begins


@pytest.fixture
def read(tmp_path):
    """Log to a run of others; gives its first event, its rows' events, its end, and the problems."""

    def read(log, **options):
        run = wandb.init(id="theirs", **options)
        log(run)
        run.finish(exit_code=options.pop("exit_code", 0))
        forget_wandb()
        adapter = WandbAdapter(str(wandb_file(tmp_path)))
        first, *rows, end = adapter.events()
        return first, rows, end, adapter.problems

    return read


def test_the_run_is_told(read):
    """The first event has W&B's id, name, project, config, tags and notes."""
    options = {"name": "tulip", "project": "garden", "notes": "try 2", "tags": ["a", "b"]}
    first, _, _, problems = read(lambda run: run.config.update({"lr": {"min": 0.5}}), **options)
    assert (first.kind, first.is_raw, first.run_id, problems) == ("run", True, "theirs", [])
    told = {key: first.model_info[key] for key in ("config", "tags", "name", "notes", "project")}
    assert told == options | {"config": {"lr": {"min": 0.5}}, "tags": {"a": "", "b": ""}}


def test_the_step_is_the_metrics_own(read):
    """Exact definitions come before globs; without either, or without its axis in the row, `_step` counts."""

    def log(run):
        run.define_metric("train/global_step")
        run.define_metric("*", step_metric="train/global_step", step_sync=False)
        run.define_metric("val/loss", step_metric="epoch", step_sync=False)
        run.log({"train/loss": 0.5, "train/global_step": 70})
        run.log({"train/loss": 0.25, "train/global_step": 80, "val/loss": 2, "epoch": 3})
        run.log({"train/loss": 0.125})
        run.log({"train/loss": 1, "train/global_step": 1.5})

    _, rows, _, _ = read(log)
    assert [(e.step, e.metrics) for e in rows] == [
        (70, {"train/loss": 0.5}),
        (3, {"val/loss": 2}),
        (80, {"train/loss": 0.25}),
        (2, {"train/loss": 0.125}),
        (3, {"train/loss": 1, "train/global_step": 1.5}),
    ]
    assert all(e.is_raw and e.run_id == "theirs" for e in rows)


@pytest.mark.parametrize(
    "name", ["step", "global_step", "train/global_step", "trainer/global_step", "iteration", "iter"]
)
@pytest.mark.parametrize("more", [{}, {"text": "x"}], ids=["numbers", "text"])
def test_a_logged_training_step_is_the_step(read, name, more):
    """Under a usual name, without a definition; if it is no whole number, W&B's count is, and all is kept."""

    def log(run):
        run.define_metric("val/loss", step_metric="epoch", step_sync=False)
        run.log({"loss": 0.5, name: 70} | more)
        run.log({"loss": 0.25, name: 80.0, "val/loss": 2, "epoch": 3} | more)
        run.log({"loss": 1, name: 1.5} | more)
        run.log({"loss": 2, name: math.inf} | more)
        run.log({name: 90} | more)

    _, rows, _, _ = read(log)
    assert [(e.step, e.metrics) for e in rows] == [
        (70, {"loss": 0.5}),
        (3, {"val/loss": 2}),
        (80, {"loss": 0.25}),
        (2, {"loss": 1, name: 1.5}),
        (3, {"loss": 2, name: math.inf}),
        (4, {name: 90}),
    ]


@pytest.mark.parametrize("more", [{}, {"text": "x"}], ids=["numbers", "text"])
def test_the_first_whole_training_step_counts(read, more):
    """Of several usual names the first with a whole number is the step, and the others are metrics."""

    def log(run):
        run.log({"loss": 1, "global_step": 7, "step": 5} | more)
        run.log({"loss": 2, "global_step": 8, "step": 5.5} | more)

    _, rows, _, _ = read(log)
    assert [(e.step, e.metrics) for e in rows] == [
        (5, {"loss": 1, "global_step": 7}),
        (8, {"loss": 2, "step": 5.5}),
    ]


def test_only_numbers_are_metrics(read):
    """Nested numbers are named with dots; what is no number is counted by its name."""

    def log(run):
        run.log(
            {"a": {"b": {"c": 1}}, "flag": True, "bad": math.nan, "text": "NaN", "none": None, "list": [1]}
        )
        run.log({"text": "x", "table": wandb.Table(columns=["q"], data=[[1]]), "h": wandb.Histogram([1, 2])})

    _, (only,), _, problems = read(log)
    assert only.metrics.keys() == {"a.b.c", "flag", "bad"}
    assert (only.metrics["a.b.c"], only.metrics["flag"], type(only.metrics["flag"])) == (1, 1, int)
    (told,) = problems
    assert told.startswith("theirs: 6 values of others are no numbers and were skipped: text (2), ")


def test_times_only_grow(read):
    """Times are whole milliseconds, each later than the one before, the same at each reading."""

    def log(run):
        for at in (AT, AT, AT - 10, AT + 1.0004, AT + 1.0001):
            run.log({"a": 1, "_timestamp": at})

    _, rows, end, _ = read(log)
    assert [round(e.time - AT, 3) for e in rows] == [0, 0.001, 0.002, 1, 1.001]
    assert end.time == round(rows[-1].time + 0.001, 3)


def test_rldk_keeps_its_times(tmp_path):
    """In a shared run RLDK's events keep the millisecond, and others' make room."""
    run = wandb.init()
    sink = WandbSink.attach()
    sink.open(RUN)
    ours = [event(i / 1000, seq=i, metrics={"loss": i}) for i in range(1, 6)]
    for at in (0.0, 0.003, 0.003, 0.0031, 9.0):
        run.log({"a": 1, "_timestamp": RUN.time + at})
    sink.send(ours)
    run.finish()
    forget_wandb()
    first, *events, _ = WandbAdapter(str(wandb_file(tmp_path))).events()
    times = [e.time for e in events]
    assert first.kind == "run"
    assert not first.is_raw
    assert times == sorted(set(times))
    assert [e.time for e in events if not e.is_raw] == [e.time for e in ours]
    assert [round(e.time - RUN.time, 3) for e in events if e.is_raw] == [0.006, 0.007, 0.008, 0.009, 9.0]


def test_the_end_tells_what_no_row_does(read):
    """The last event has the summary's numbers but for those that a row had last, and how the run ended."""

    def log(run):
        run.define_metric("b", summary="min,max")
        run.log({"a": 1, "b": 3})
        run.log({"a": 2, "b": 1})
        run.summary.update({"best": 0.5, "nested": {"x": 1}, "text": "t", "a": 2, "bad": "NaN"})

    _, _, end, _ = read(log)
    assert (end.kind, end.is_raw, end.model_info["status"]) == ("end", True, "FINISHED")
    bad = end.metrics.pop("bad")
    assert math.isnan(bad)
    assert end.metrics == {"b.max": 3, "b.min": 1, "best": 0.5, "nested.x": 1}


@pytest.mark.parametrize(("code", "status"), [(0, "FINISHED"), (1, "FAILED"), (255, "FAILED")])
def test_how_it_ended(tmp_path, code, status):
    """By the exit code; a run that has not ended has no last event."""
    run = wandb.init()
    adapter = WandbAdapter(str(wandb_file(tmp_path)))
    assert [e.kind for e in adapter.events()][1:] == []
    assert "still going" in adapter.problems[0]
    run.finish(exit_code=code)
    forget_wandb()
    assert list(adapter.events())[-1].model_info["status"] == status
