"""All that a run holds is read: what others have logged comes as raw events, in the order of time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric

from rldk.bridge import RunFacts, Target
from rldk_mlflow import history
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

T0 = 1_763_847_600_000


def others_run(*points: tuple[str, float, int, int], **created: Any) -> str:
    """The id of a run that somebody has logged these points to: name, value, milliseconds, step."""
    client = mlflow.MlflowClient()
    run_id = str(client.create_run("0", start_time=T0, **created).info.run_id)
    client.log_batch(run_id, metrics=[Metric(k, v, T0 + at, step) for k, v, at, step in points])
    return run_id


def told(events: list[Event]) -> list[tuple[str, int, int, dict[str, float]]]:
    """Kind, milliseconds, step and numbers."""
    return [(e.kind, round(e.time * 1000) - T0, e.step, e.metrics) for e in events]


def events_of(run_id: str) -> list[Event]:
    """Read the run from where MLflow is configured to."""
    return list(MLflowAdapter(f"runs:/{run_id}").events())


@pytest.mark.usefixtures("mlflow_db")
def test_numbers_of_one_moment_are_one_event() -> None:
    """They are grouped by time and step, and have the names that they were given."""
    run_id = others_run(
        ("loss", 2.0, 5, 1), ("system/gpu 0", 0.5, 5, 1), ("loss", 1.0, 9, 2), ("kl", 0.1, 9, 3)
    )
    events = events_of(run_id)
    assert told(events) == [
        ("run", 0, 0, {}),
        ("metrics", 5, 1, {"loss": 2.0, "system/gpu 0": 0.5}),
        ("metrics", 9, 2, {"loss": 1.0}),
        ("metrics", 10, 3, {"kl": 0.1}),
    ]
    assert {(e.is_raw, e.run_id) for e in events} == {(True, run_id)}
    assert [e.seq for e in events] == [0, 1, 2, 3]


@pytest.mark.usefixtures("mlflow_db")
def test_values_of_one_moment_are_all_read() -> None:
    """A loop that logs without a step writes several into one millisecond; none is dropped."""
    events = events_of(others_run(*(("loss", float(n), 5, 0) for n in range(3))))
    assert [(at, m["loss"]) for _, at, _, m in told(events)[1:]] == [(5, 0.0), (6, 1.0), (7, 2.0)]


@pytest.mark.usefixtures("mlflow_db")
def test_points_from_before_the_run_are_after_the_event_that_begins_it() -> None:
    """Somebody gave them a time of their own; they keep it."""
    assert told(events_of(others_run(("loss", 1.0, -50, 0))))[:2] == [
        ("run", -51, 0, {}),
        ("metrics", -50, 0, {"loss": 1.0}),
    ]


@pytest.mark.usefixtures("mlflow_db")
def test_the_first_event_tells_what_mlflow_shows_of_the_run() -> None:
    """Params, tags, name, notes and experiment; MLflow's own tags stay where they are."""
    client = mlflow.MlflowClient()
    tags = {"team": "a", "mlflow.note.content": "# Try", "mlflow.user": "ann"}
    run_id = others_run(("loss", 1.0, 5, 1), run_name="kind-fox", tags=tags)
    client.log_param(run_id, "lr", 0.1)
    told = events_of(run_id)[0].model_info
    assert {key: told.get(key) for key in ("config", "tags", "name", "notes", "project", "raw")} == {
        "config": {"lr": "0.1"},
        "tags": {"team": "a"},
        "name": "kind-fox",
        "notes": "# Try",
        "project": "Default",
        "raw": True,
    }


@pytest.mark.usefixtures("mlflow_db")
def test_what_is_empty_is_not_told() -> None:
    """A run without params, tags and notes has none of the fields."""
    assert not {"config", "tags", "notes"} & events_of(others_run(("loss", 1.0, 5, 1)))[0].model_info.keys()


@pytest.mark.usefixtures("mlflow_db")
@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_last_event_tells_how_the_run_ended(status: str) -> None:
    """It has the time of the end, or that after the last point where points are later."""
    run_id = others_run(("loss", 1.0, 5, 7))
    client = mlflow.MlflowClient()
    for end, time in ((T0 + 100, 100), (T0 + 1, 6)):
        client.set_terminated(run_id, status, end_time=end)
        last = events_of(run_id)[-1]
        assert told([last]) == [("end", time, 7, {})]
        assert (last.is_raw, last.model_info["status"]) == (True, status)


@pytest.mark.usefixtures("mlflow_db")
def test_a_run_that_goes_on_has_no_end() -> None:
    """Also where it had ended once."""
    run_id = others_run(("loss", 1.0, 5, 7))
    client = mlflow.MlflowClient()
    client.set_terminated(run_id)
    client.update_run(run_id, status="RUNNING")
    assert [e.kind for e in events_of(run_id)] == ["run", "metrics"]


@pytest.mark.usefixtures("mlflow_db")
def test_a_run_of_both_is_read_as_both(run: Event, event: Callable[..., Event]) -> None:
    """RLDK's events come back as themselves, and the others' between them."""
    own = event(1, seq=2, step=1, metrics={"loss": 1.0})
    at = [round(own.time * 1000) - T0 + off for off in (-1, 0, 1)]
    with mlflow.start_run() as active:
        sink = MLflowSink.attach()
        assert sink is not None
        sink.open(run)
        sink.send([own])
        points = [Metric("loss", 9.0, T0 + time, 1) for time in at]
        mlflow.MlflowClient().log_batch(active.info.run_id, metrics=points)
    events = events_of(active.info.run_id)
    assert [e.kind for e in events] == ["run", "metrics", "metrics", "metrics", "metrics", "end"]
    assert events[2] == own
    assert [e.is_raw for e in events] == [False, True, False, True, True, True]
    assert {e.run_id for e in events} == {run.run_id}
    assert [round((e.time - own.time) * 1000) for e in events[1:5]] == [-1, 0, 1, 2]


@pytest.mark.usefixtures("mlflow_server")
def test_a_copy_is_read_as_its_original(event: Callable[..., Event]) -> None:
    """A raw run that is sent to another MLflow, and read there, is the same but for its place."""
    told = {"raw": True, "config": {"lr": "0.1"}, "tags": {"team": "a"}, "name": "fox", "notes": "# Try"}
    original = [
        event(kind="run", rng={}, model_info=told),
        event(1, seq=1, step=1, rng={}, metrics={"loss": 1.5, "odd (name)": 2.0}, model_info={"raw": True}),
        event(2, seq=2, step=2, rng={}, metrics={"loss": 0.5}, model_info={"raw": True}),
    ]
    sink = MLflowSink.create(Target(project="copies"))
    home = sink.open(original[0])
    sink.send([*original, event(3, kind="end", rng={}, step=2, model_info={"raw": True, "status": "FAILED"})])
    sink.close("FAILED", [])
    *back, end = MLflowAdapter(home.source).events()
    assert [(e.kind, e.time, e.step, e.metrics, e.run_id, e.is_raw) for e in back] == [
        (e.kind, e.time, e.step, e.metrics, e.run_id, e.is_raw) for e in original
    ]
    assert {key: back[0].model_info.get(key) for key in told} == told
    assert (end.model_info["status"], end.wall_time) == ("FAILED", 3.0)
    assert "rldk/health/nonfinite_count" not in mlflow.MlflowClient().get_run(home.run_id).data.metrics


POINTS = st.lists(st.tuples(st.integers(-3, 6), st.integers(0, 2), st.integers(0, 3)), max_size=30)


@given(raw=POINTS, own=st.lists(st.integers(1, 8), unique=True, max_size=8))
def test_times_only_grow(raw: list[tuple[int, int, int]], own: list[int]) -> None:
    """RLDK's events keep their time, the others' keep their order and every value."""
    facts = RunFacts(run_id="r", began=T0 / 1000)
    series = [
        history.Series.of("x", [Metric("x", float(v), T0 + at, step) for at, step, v in raw]),
        history.Series.of("rldk/loss", [Metric("rldk/loss", 1.0, T0 + at, 0) for at in own]),
    ]
    problems: list[str] = []
    events = list(history.events(series, facts, problems.append))
    assert all(one.time < other.time for one, other in pairwise(events))
    assert [round(e.time * 1000) - T0 for e in events if not e.is_raw][1:] == sorted(own)
    assert sorted((e.step, e.metrics["x"]) for e in events if e.is_raw) == sorted(
        (step, float(v)) for at, step, v in set(raw)
    )
    assert problems == []
