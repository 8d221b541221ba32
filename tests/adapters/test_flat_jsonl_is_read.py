"""Every line of another tool's JSONL with a step and a number is an event, under the names it has."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk import event as event_json
from rldk.adapters.flat_jsonl import FlatJsonlAdapter
from rldk.adapters.raw import RESERVED, RUNS, STEPS, TIMES
from rldk.errors import SourceError


@pytest.fixture
def read(tmp_path):
    """Write lines, read them: the events and the problems."""

    def read(*lines):
        path = tmp_path / "log.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        adapter = FlatJsonlAdapter(str(path))
        return list(adapter.events()), adapter.problems

    return read


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson", "log"])
def test_the_run_is_called_as_the_file(tmp_path, told, name):
    """Where no line tells its run; the ending is no part of it, and plays none."""
    (tmp_path / name).write_text('{"step": 1, "loss": 0.5}\n')
    adapter = FlatJsonlAdapter(str(tmp_path / name))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert (events[0].run_id, told(events)) == ("log", [(1, {"loss": 0.5})])


def test_nested_names_are_joined(read, told):
    """By slashes, as trainers' own names are."""
    events, _ = read({"step": 1, "data": {"kl": 0.5, "x": {"y": 2}}, "loss": 1})
    assert told(events) == [(1, {"data/kl": 0.5, "data/x/y": 2, "loss": 1})]


@pytest.mark.parametrize("key", ["step", "global_step", "_step", "iteration", "iter", "train/global_step"])
def test_the_step_has_many_names(read, told, key):
    """It is no metric, and may be a float that is whole."""
    events, _ = read({key: 10.0, "loss": 1.5})
    assert told(events) == [(10, {"loss": 1.5})]


def test_a_count_of_rows_is_no_step_where_there_is_one(read, told):
    """W&B's `_step` counts rows: one that has nothing else belongs to the step before."""
    events, _ = read({"_step": 0, "train/global_step": 10, "a": 1}, {"_step": 1, "b": 2})
    assert told(events) == [(10, {"a": 1}), (10, {"b": 2})]


def test_names_of_no_number_are_numbers(read, told):
    """Bare, as Python writes them, or quoted."""
    events, problems = read('{"step": 1, "a": NaN, "b": "-Infinity", "c": true, "d": null, "e": "text"}')
    assert repr(told(events)) == "[(1, {'a': nan, 'b': -inf, 'c': 1})]"
    assert len(problems) == 1
    assert "e (1)" in problems[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", 1763847600.5),
        ("timestamp", 1763847600500),
        ("_timestamp", 1.7638476005e9),
        ("ts", "2025-11-22T21:40:00.5+00:00"),
        ("wall_time", "2025-11-22 21:40:00.500"),
    ],
)
def test_clocks_are_read(read, key, value):
    """Seconds or finer since the epoch, or an ISO date, which is UTC where it does not say."""
    events, _ = read({"step": 1, key: value, "loss": 1})
    assert events[1].time == 1763847600.5
    assert events[1].metrics == {"loss": 1}


def test_a_duration_is_no_clock(read, told):
    """It stays a metric."""
    events, _ = read({"step": 1, "time": 0.25})
    assert told(events) == [(1, {"time": 0.25})]
    assert events[1].wall_time == 0


def test_a_clock_that_steps_back_does_not_turn_events_round(read):
    """Times only grow; a row without one comes a millisecond later."""
    at = 1763847600
    events, _ = read({"step": 1, "a": 1, "ts": at}, {"step": 2, "a": 1, "ts": at - 9}, {"step": 3, "a": 1})
    assert [round((event.time - at) * 1000) for event in events] == [-1, 0, 1, 2]


def test_several_runs_may_share_a_file(read):
    """Each has a first event and times of its own."""
    events, _ = read(*({"run_id": run, "step": n, "a": n} for n in range(2) for run in "ab"))
    assert [(event.run_id, event.kind, event.seq) for event in events] == [
        ("a", "run", 0),
        ("a", "metrics", 1),
        ("b", "run", 0),
        ("b", "metrics", 1),
        ("a", "metrics", 2),
        ("b", "metrics", 2),
    ]


def test_what_is_no_row_is_counted_with_its_first_line(read, told):
    """No JSON, no object, no step, no number."""
    events, problems = read({"step": 1, "a": 1}, "{", "[1]", {"a": 1}, "", {"step": 2, "b": "x"}, "{")
    assert told(events) == [(1, {"a": 1})]
    assert sorted(problem.split(": ")[1].split(" were")[0] for problem in problems) == [
        "1 lines have no numbers and",
        "1 lines have no step and",
        "1 values are no numbers and",
        "3 lines are no JSON objects and",
    ]
    assert any("line 2" in problem for problem in problems)


def test_a_file_without_rows_is_an_error(read):
    """It says so, and what to give."""
    with pytest.raises(SourceError, match="no line of it has a step"):
        read("", "{}")


def test_journals_are_left_to_their_adapter(tmp_path, make_event):
    """Wide and long."""
    long = json.dumps({"step": 1, "name": "kl", "value": 0.5}).encode()
    for line in (event_json.encode(make_event(metrics={"kl": 0.5})), long):
        path = tmp_path / "x.jsonl"
        path.write_bytes(line + b"\n")
        assert not FlatJsonlAdapter(str(path)).can_handle()


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
names = st.text(min_size=1, max_size=8).filter(lambda name: name not in FORBIDDEN)
FORBIDDEN = {*STEPS, *TIMES, *RUNS, *RESERVED}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.dictionaries(names, numbers, min_size=1)), min_size=1
    )
)
def test_any_flat_rows_come_back(tmp_path, told, rows):
    """The law: what json.dumps wrote is what is read."""
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": step, **row}) + "\n" for step, row in rows))
    assert repr(told(FlatJsonlAdapter(str(path)).events())) == repr(rows)
