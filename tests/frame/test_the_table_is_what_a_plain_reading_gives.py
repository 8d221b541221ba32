"""The columns are worked out at once; a plain reading, event by event, gives the same table."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.event import Event, as_float
from rldk.frame import table, training_metrics
from rldk.rows import Rows
from rldk.schema import DTYPES, LEADING_METRICS, validate

numbers = st.one_of(st.floats(), st.integers(-3, 3), st.just(10**400), st.just(-0.0))
logs = st.dictionaries(st.sampled_from(["loss", "kl_mean", "step", "a", "b"]), numbers, max_size=4)
counts = st.one_of(st.integers(0, 3), st.sampled_from([None, 2.0, 2.5, "x", 2**70, -(2**62)]))


@st.composite
def an_event(draw):
    """Any event of two runs, a few steps and starts."""
    info = {
        "run_id": draw(st.sampled_from(["r", "s"])),
        "phase": draw(st.sampled_from(["train", "eval", "test"])),
        "segment": draw(st.integers(0, 2)),
        "git_sha": draw(st.sampled_from([None, "abc", "def", 7])),
    }
    return Event(
        kind=draw(st.sampled_from(["metrics", "metrics", "metrics", "run", "resource"])),
        step=draw(st.integers(0, 3)),
        wall_time=draw(st.sampled_from([0.0, 1.5, math.nan])),
        metrics=draw(logs),
        rng=draw(st.sampled_from([{}, {"seed": 1}, {"seed": 2.0}, {"seed": [1]}])),
        data_slice=draw(st.dictionaries(st.sampled_from(["tokens_in", "tokens_out"]), counts)),
        model_info=info,
        notes=[],
    )


def whole(value):
    """A whole number that a column can hold."""
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole and -(2**63) <= value < 2**63 else None


def plain_rows(events, attempts):
    """The rows of the table, worked out one by one."""
    rows = {}
    for event in events:
        if event.kind != "metrics":
            continue
        key = (event.run_id, event.step, event.phase, event.segment)
        told = {name: whole(event.data_slice.get(name)) for name in ("tokens_in", "tokens_out")}
        if key not in rows:
            sha = event.model_info["git_sha"]
            rows[key] = {
                "wall_time": event.wall_time,
                "seed": whole(event.rng.get("seed")),
                "git_sha": sha if isinstance(sha, str) else None,
                "tokens_in": None,
                "tokens_out": None,
                "metrics": {},
            }
        rows[key] |= {name: value for name, value in told.items() if value is not None}
        rows[key]["metrics"] |= {name: as_float(value) for name, value in event.metrics.items()}
    if attempts == "all":
        return rows
    latest = {}
    for (run, step, phase, segment), row in sorted(rows.items(), key=lambda item: item[0][3]):
        starts = [e for e in events if e.kind == "run" and e.run_id == run and e.segment > segment]
        if step <= min((e.step for e in starts), default=step):
            latest[run, step, phase] = (segment, row)
    return {(*key, segment): row for key, (segment, row) in latest.items()}


def shown(cell):
    """A cell as text: missing, NaN, and both zeros are told apart."""
    return "missing" if cell is pd.NA or cell is None else repr(cell)


@pytest.mark.parametrize("attempts", ["latest", "all"])
@given(events=st.lists(an_event(), max_size=12))
def test_every_cell_is_the_same(events, attempts):
    """Whatever is repeated, superseded, missing or hostile."""
    read = validate(training_metrics(events, attempts=attempts))
    expected = plain_rows(events, attempts)
    found = {}
    for row in read.to_dict("records"):
        segment = row.get("segment")
        found[row["run_id"], row["step"], row["phase"], segment] = row
    keys = {key if attempts == "all" else (*key[:3], None): row for key, row in expected.items()}
    assert found.keys() == keys.keys()
    for key, plain in keys.items():
        row = found[key]
        for name in ("seed", "git_sha", "tokens_in", "tokens_out", "wall_time"):
            assert shown(row[name]) == shown(plain[name]), (key, name)
        for name in ("loss", "kl_mean", "step", "a", "b"):
            column = f"metric/{name}" if name in DTYPES and name not in LEADING_METRICS else name
            assert shown(row.get(column)) == shown(plain["metrics"].get(name)), (key, name)
    order = [(r["run_id"], r["step"], r["phase"] == "eval") for r in read.to_dict("records")]
    assert order == sorted(order)


@given(events=st.lists(an_event(), max_size=12), cut=st.integers(0, 12))
def test_a_run_in_two_parts_is_the_run(events, cut):
    """As when several sources hold some of it."""
    events = [event for event in events if event.run_id == "r"]
    parts = [Rows("r"), Rows("r")]
    for number, event in enumerate(events):
        parts[number >= cut].add(event)
    parts[0].extend(parts[1])
    pd.testing.assert_frame_equal(
        table([parts[0]]), training_metrics([Event(**fields(e)) for e in events] or [])
    )


def fields(event):
    """An event's fields by name."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_more_sets_of_names_than_are_kept_apart(make_event):
    """A run whose every log has other names than all before."""
    events = [make_event(step=n, metrics={f"m{n}": n / 2, "loss": n}) for n in range(1500)]
    read = training_metrics(events)
    assert read["loss"].tolist() == list(range(1500))
    assert [read[f"m{n}"].notna().sum() for n in (0, 999, 1000, 1499)] == [1, 1, 1, 1]
    assert read["m1499"].tolist()[-1] == 749.5


def test_asked_for_names_are_the_columns(make_event):
    """One that was not measured is missing, and no other one is there."""
    rows = Rows("r")
    rows.add(make_event(metrics={"loss": 1.0, "a": 2.0}))
    read = table([rows], names=["b", "loss"])
    assert list(read.columns) == [*DTYPES, "b"]
    assert (read["loss"].tolist(), read["b"].isna().tolist()) == ([1.0], [True])
