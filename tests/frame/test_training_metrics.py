"""The TrainingMetrics table: fixed columns first, one row a step and phase, missing and NaN apart."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rldk.errors import SettingError
from rldk.frame import training_metrics
from rldk.schema import DTYPES


@pytest.fixture
def log(make_event):
    """Build a metrics event of some step."""

    def make(step, metrics, *, segment=0, phase="train", run_id="r", **fields):
        info = {"run_id": run_id, "phase": phase, "segment": segment, "git_sha": "abc"}
        return make_event(step=step, metrics=metrics, model_info=info, **fields)

    return make


def test_the_first_columns_and_dtypes_are_fixed(log):
    """They do not depend on what a run logged; other metrics follow by name."""
    table = training_metrics([log(1, {"zeta": 1, "alpha": 2, "loss": 3})])
    assert list(table.columns) == [*DTYPES, "alpha", "zeta"]
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == DTYPES | {
        "alpha": "Float64",
        "zeta": "Float64",
    }


def test_no_events_give_an_empty_table_of_the_same_schema():
    """An empty run has the columns and dtypes of any other."""
    table = training_metrics([])
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == DTYPES
    assert table.empty


def test_missing_nan_infinity_and_zero_are_four_things(log):
    """Isna tells what was not measured; NaN is a value."""
    values = [{"loss": 0.0}, {"loss": math.nan}, {"loss": math.inf}, {}]
    column = training_metrics([log(step, metrics) for step, metrics in enumerate(values)])["loss"]
    assert column.isna().tolist() == [False, False, False, True]
    assert (column[0], column[2]) == (0.0, math.inf)
    assert math.isnan(column[1])


def test_rows_are_sorted_by_step_with_evaluation_after_training(log):
    """The order of the events does not matter."""
    table = training_metrics([log(2, {"loss": 1}), log(1, {"loss": 1}, phase="eval"), log(1, {"loss": 1})])
    assert list(zip(table["step"], table["phase"], strict=True)) == [(1, "train"), (1, "eval"), (2, "train")]


def test_two_logs_of_one_step_are_one_row(log):
    """A step that is logged in two parts keeps both."""
    table = training_metrics([log(1, {"loss": 1.0}), log(1, {"reward_mean": 2.0})])
    assert len(table) == 1
    assert (table["loss"][0], table["reward_mean"][0]) == (1.0, 2.0)


@pytest.mark.parametrize("order", [1, -1])
def test_a_repeated_step_is_superseded_as_a_whole(log, order):
    """Nothing of the earlier attempt shows through, in whatever order they are read."""
    attempts = [log(1, {"loss": 1.0, "kl_mean": 1.0}), log(1, {"loss": 2.0}, segment=1)]
    table = training_metrics(attempts[::order])
    assert table["loss"].tolist() == [2.0]
    assert table["kl_mean"].isna().tolist() == [True]


def test_all_attempts_can_be_asked_for(log):
    """Every attempt is a row, told apart by the number of its start."""
    events = [log(1, {"loss": 1.0}), log(1, {"loss": 2.0}, segment=1), log(2, {"loss": 3.0}, segment=1)]
    table = training_metrics(events, attempts="all")
    assert list(zip(table["step"], table["segment"], table["loss"], strict=True)) == [
        (1, 0, 1.0),
        (1, 1, 2.0),
        (2, 1, 3.0),
    ]


def test_anything_else_is_told():
    """The error lists what attempts may be."""
    with pytest.raises(SettingError, match="latest or all"):
        training_metrics([], attempts="first")


def test_a_metric_that_is_called_like_a_column_moves_aside(log):
    """Both are kept."""
    table = training_metrics([log(7, {"step": 1.0, "seed": 2.0, "segment": 3.0})], attempts="all")
    assert (table["step"][0], table["metric/step"][0], table["metric/seed"][0]) == (7, 1.0, 2.0)
    assert (table["segment"][0], table["metric/segment"][0]) == (0, 3.0)


@pytest.mark.parametrize("value", ["abc", [1], 1.5, 2**70, None, float("nan")])
def test_a_seed_or_count_that_no_column_can_hold_is_missing(log, value):
    """A hostile line costs no other."""
    event = log(1, {"loss": 1}, rng={"seed": value}, data_slice={"tokens_in": value})
    assert training_metrics([event])[["seed", "tokens_in"]].isna().all(axis=None)


def test_runs_are_kept_apart(log):
    """The same step of two runs is two rows."""
    table = training_metrics([log(1, {"loss": 1.0}), log(1, {"loss": 2.0}, run_id="other")])
    assert table["run_id"].tolist() == ["other", "r"]


def test_only_metrics_events_are_rows(log):
    """A resource sample or the end of a run is no step."""
    assert training_metrics([log(1, {"x": 1}, kind="resource"), log(1, {"x": 1}, kind="end")]).empty


def test_what_every_event_repeats_is_a_column(log):
    """Seed, run, commit and token counts come from the event's other fields."""
    event = log(
        1, {"loss": 1}, rng={"seed": 42}, data_slice={"tokens_in": 10, "tokens_out": 5}, wall_time=1.5
    )
    row = training_metrics([event]).iloc[0]
    assert (row["seed"], row["tokens_in"], row["tokens_out"], row["git_sha"]) == (42, 10, 5, "abc")
    assert row["wall_time"] == 1.5


def test_an_int_beyond_every_float_is_infinite(log):
    """A huge number does not raise."""
    assert training_metrics([log(1, {"loss": 10**400})])["loss"].tolist() == [math.inf]


def test_the_table_survives_sorting_copying_and_joining(log):
    """NaN does not turn into missing by the usual handling of a table."""
    table = training_metrics([log(1, {"loss": math.nan}), log(2, {})])
    for changed in (
        table.copy(),
        table.sort_values("step"),
        pd.concat([table, table]).iloc[:2],
        table.loc[:1],
    ):
        assert changed["loss"].isna().tolist() == [False, True]


def test_runs_that_resume_one_another_can_be_joined(log, make_event):
    """A chain of resumptions under new ids is one run, and later starts supersede earlier ones."""

    def begun(run_id, continues, step):
        info = {"run_id": run_id, "segment": 0, "continues": continues}
        return make_event(kind="run", step=step, model_info=info)

    events = [
        *(log(step, {"loss": 1.0}, run_id="a") for step in (1, 2, 3)),
        begun("z", "a", 2),
        *(log(step, {"loss": 2.0}, run_id="z") for step in (3, 4)),
        log(4, {"loss": 3.0}, run_id="z", segment=1),
        begun("b", "z", 4),
        log(5, {"loss": 4.0}, run_id="b"),
        log(1, {"loss": 9.0}, run_id="other"),
    ]
    table = training_metrics(events, join=True)
    assert table.loc[table["run_id"] == "a", "loss"].tolist() == [1.0, 1.0, 2.0, 3.0, 4.0]
    assert set(table["run_id"]) == {"a", "other"}
    everything = training_metrics(events, join=True, attempts="all")
    assert everything.loc[everything["run_id"] == "a", "segment"].tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert set(training_metrics(events)["run_id"]) == {"a", "b", "z", "other"}


def test_runs_that_resume_each_other_in_a_circle_are_taken(log, make_event):
    """A hostile file does not hang the reader."""
    events = [
        make_event(kind="run", model_info={"run_id": "a", "continues": "b"}),
        make_event(kind="run", model_info={"run_id": "b", "continues": "a"}),
        log(1, {"loss": 1.0}, run_id="a"),
    ]
    assert len(training_metrics(events, join=True)) == 1


@pytest.fixture
def begun(make_event):
    """Build the event of a start."""

    def make(segment, step, **info):
        return make_event(kind="run", step=step, model_info={"run_id": "r", "segment": segment} | info)

    return make


def test_a_resumed_run_discards_what_lay_beyond_its_checkpoint(log, begun):
    """Steps of an abandoned attempt that were not repeated are no part of the run's history."""
    events = [begun(0, 0), *(log(step, {"loss": 1.0}) for step in (1, 2, 3, 4, 5)), begun(1, 2)]
    events += [log(3, {"loss": 2.0}, segment=1)]
    table = training_metrics(events)
    assert list(zip(table["step"], table["loss"], strict=True)) == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert training_metrics(events, attempts="all")["step"].tolist() == [1, 2, 3, 3, 4, 5]


def test_what_was_measured_in_superseded_steps_alone_is_no_column(log, begun):
    """Unless they are asked for."""
    events = [begun(0, 0), log(1, {"loss": 1.0}), log(2, {"loss": 1.0, "lost": 2.0}), begun(1, 1)]
    events += [log(2, {"loss": 3.0}, segment=1)]
    assert "lost" not in training_metrics(events).columns
    assert training_metrics(events, attempts="all")["lost"].tolist() == [pd.NA, 2.0, pd.NA]


def test_a_training_that_begins_anew_is_not_mixed_with_an_earlier_one(log, begun):
    """Two trainings under one tracker run: the table is the later one's."""
    events = [begun(0, 0), *(log(step, {"loss": 1.0}) for step in (1, 2, 3)), begun(1, 0)]
    events += [log(1, {"loss": 2.0}, segment=1)]
    assert training_metrics(events)["loss"].tolist() == [2.0]


def test_an_evaluation_before_and_after_training_stays(log, begun):
    """A start discards only what lies beyond its own step."""
    events = [begun(0, 0), log(0, {"loss": 1.0}, phase="eval"), begun(1, 0), log(1, {"loss": 2.0}, segment=1)]
    events += [begun(2, 1), log(1, {"loss": 3.0}, phase="eval", segment=2)]
    assert training_metrics(events)["loss"].tolist() == [1.0, 2.0, 3.0]


def test_an_evaluation_by_a_later_process_leaves_the_training_as_it_is(log, begun):
    """A trainer that only evaluates stands at step 0, and discards nothing."""
    events = [begun(0, 0), *(log(step, {"loss": 1.0}) for step in (1, 2)), begun(1, 0, outside_training=True)]
    events += [log(0, {"loss": 2.0}, phase="eval", segment=1)]
    assert training_metrics(events)["loss"].tolist() == [2.0, 1.0, 1.0]


def test_a_chain_goes_through_a_run_that_logged_nothing(log, make_event):
    """It was killed before its first step."""

    def begun(run_id, continues, step):
        return make_event(kind="run", step=step, model_info={"run_id": run_id, "continues": continues})

    events = [
        log(1, {"loss": 1.0}, run_id="a"),
        begun("b", "a", 1),
        begun("c", "b", 1),
        log(2, {"loss": 2.0}, run_id="c"),
    ]
    assert set(training_metrics(events, join=True)["run_id"]) == {"a"}


def test_a_run_whose_beginning_is_elsewhere_keeps_its_id(log, make_event):
    """And its segments keep their numbers."""
    events = [
        make_event(kind="run", step=3, model_info={"run_id": "c", "continues": "gone", "segment": 2}),
        log(4, {"loss": 1.0}, run_id="c", segment=2),
    ]
    table = training_metrics(events, join=True, attempts="all")
    assert (table["run_id"].tolist(), table["segment"].tolist()) == (["c"], [2])


def test_runs_that_resumed_the_same_one_are_left_apart(log, make_event):
    """Which of them goes on nobody can tell."""
    events = [
        log(1, {"loss": 1.0}, run_id="a"),
        *(make_event(kind="run", step=1, model_info={"run_id": run, "continues": "a"}) for run in "bc"),
        log(2, {"loss": 2.0}, run_id="b"),
        log(2, {"loss": 3.0}, run_id="c"),
    ]
    table = training_metrics(events, join=True)
    assert dict(zip(table["run_id"], table["loss"], strict=True)) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_runs_in_a_circle_keep_their_rows(log, make_event):
    """One of them is taken for the first, and has its own."""
    events = [
        make_event(kind="run", model_info={"run_id": "a", "continues": "b"}),
        make_event(kind="run", model_info={"run_id": "b", "continues": "a"}),
        log(1, {"loss": 1.0}, run_id="a"),
        log(2, {"loss": 2.0}, run_id="b"),
    ]
    table = training_metrics(events, join=True)
    assert (set(table["run_id"]), table["loss"].tolist()) == ({"a"}, [1.0, 2.0])


def test_metrics_that_are_called_as_if_they_had_moved_aside(log):
    """Every one of them is kept."""
    names = {"seed": 1.0, "metric/seed": 2.0, "metric/metric/seed": 3.0, "metric/loss": 4.0, "segment": 5.0}
    table = training_metrics([log(1, names)])
    shown = [
        "metric/seed",
        "metric/metric/seed",
        "metric/metric/metric/seed",
        "metric/loss",
        "metric/segment",
    ]
    assert [table[name][0] for name in shown] == [1.0, 2.0, 3.0, 4.0, 5.0]
