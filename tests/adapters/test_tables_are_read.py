"""A table with any columns gives an event for each row: CSV, TSV and Parquet."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rldk.adapters.tables import TableAdapter
from rldk.errors import SourceError
from rldk.ingest import ingest_runs


@pytest.fixture
def read(tmp_path):
    """Write a table, read it: the events and the problems."""

    def read(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        adapter = TableAdapter(str(path))
        assert adapter.can_handle()
        return list(adapter.events()), adapter.problems

    return read


def test_an_empty_cell_is_missing_and_nan_is_broken(read, told):
    """So are the other names of nothing."""
    events, problems = read("step,a,b,c\n1,,NaN,-inf\n2,1,NA,0.5\n3,,,\n")
    assert repr(told(events)) == "[(1, {'b': nan, 'c': -inf}), (2, {'a': 1, 'c': 0.5})]"
    assert problems == []


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_dialect_is_found(read, told, delimiter, newline, mark):
    """Also with the mark that spreadsheets put first."""
    text = newline.join(delimiter.join(row) for row in [['"Global Step"', "a b"], ["1", '"0.5"'], [""]])
    assert told(read(mark + text)[0]) == [(1, {"a b": 0.5})]


def test_runs_of_one_table_are_told_apart(read, told):
    """By a column with their names."""
    events, _ = read("Run ID,step,loss\nx,1,3\ny,1,4\nx,2,5\n")
    assert [(e.run_id, e.kind, e.metrics.get("loss")) for e in events] == [
        ("x", "run", None),
        ("x", "metrics", 3),
        ("y", "run", None),
        ("y", "metrics", 4),
        ("x", "metrics", 5),
    ]


def test_text_is_counted_and_bad_rows_too(read, told):
    """With the first line."""
    events, problems = read('step,a,b\n1,2,x\n,3,4\n1,2\n1.5,1,1\n"2","1\n",0\n')
    assert told(events) == [(1, {"a": 2}), (2, {"a": 1.0, "b": 0})]
    assert [problem.split(": ", 1)[1] for problem in problems] == [
        "2 rows have no step and were skipped, the first is line 3",
        "1 rows have more or fewer cells than the header and were skipped, the first is line 4",
        "1 values are no numbers and were skipped: b (1)",
    ]


def test_clocks_are_read(read):
    """A column with times gives the events theirs."""
    events, _ = read("step,timestamp,a\n1,2025-11-22T21:40:00Z,1\n2,1763847601000,2\n")
    assert [event.time for event in events[1:]] == [1763847600.0, 1763847601.0]
    assert events[2].wall_time == 1.001


def test_one_value_a_row_is_one_event_a_moment(read, told):
    """Neighbouring rows of one run and step."""
    events, _ = read("metric,step,value\nkl,1,0.5\nloss,1,2\nkl,2,NaN\nloss,2,\nkl,2,7\n")
    assert repr(told(events)) == "[(1, {'kl': 0.5, 'loss': 2}), (2, {'kl': nan}), (2, {'kl': 7})]"


def test_tensorboards_download_tells_run_and_tag_in_its_name(read, told):
    """The table itself has three columns."""
    text = "Wall time,Step,Value\n1763847600.5,3,0.25\n"
    events, _ = read(text, "run-a_b-tag-train_loss.csv")
    assert told(events) == [(3, {"train_loss": 0.25})]
    assert (events[1].run_id, events[1].time) == ("a_b", 1763847600.5)


def test_pandas_csv_is_read(read, told):
    """With its index, and with integers that holes have made floats."""
    frame = pd.DataFrame({"step": [1.0, 2.0], "loss": [0.5, None], "kl": [float("inf"), 1e-7]})
    assert told(read(frame.to_csv())[0]) == [(1, {"loss": 0.5, "kl": float("inf")}), (2, {"kl": 1e-7})]


def test_parquet_is_read(tmp_path, told):
    """Null is missing, NaN is broken; numbers of all kinds, and times."""
    when = dt.datetime(2025, 11, 22, 21, 40, tzinfo=dt.UTC)
    table = pa.table(
        {
            "step": pa.array([1, 2], pa.int32()),
            "run": pa.array(["r", "r"]),
            "loss": pa.array([float("nan"), None], pa.float32()),
            "n": pa.array([2**60, 1], pa.int64()),
            "ok": [True, False],
            "timestamp": pa.array([when, None], pa.timestamp("ms", "UTC")),
            "prompt": ["x", "y"],
            "nested": [[1], [2]],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    adapter = TableAdapter(str(tmp_path / "t.parquet"))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert repr(told(events)) == f"[(1, {{'loss': nan, 'n': {2**60}, 'ok': 1}}), (2, {{'n': 1, 'ok': 0}})]"
    assert [event.time for event in events[1:]] == [when.timestamp(), when.timestamp() + 0.001]
    assert "prompt, nested" in adapter.problems[0]


def test_a_table_without_steps_is_an_error(tmp_path):
    """It names the columns, and says which name helps."""
    path = tmp_path / "t.csv"
    path.write_text("epoch,loss\n1,2\n")
    adapter = TableAdapter(str(path))
    assert not adapter.can_handle()
    with pytest.raises(SourceError, match=r"epoch, loss.*'step'"):
        list(adapter.events())


@pytest.mark.parametrize("steps", [range(4), range(10, 50, 10), [3, 1, 4, 5]])
def test_a_step_that_is_pandas_index_is_read(tmp_path, steps):
    """Where it counts evenly pandas writes no column for it, and says so beside the columns."""
    table = pd.DataFrame({"step": steps, "loss": [1.0, 2.0, 3.0, 4.0]}).set_index("step")
    table.to_parquet(tmp_path / "log.parquet")
    read = ingest_runs(tmp_path / "log.parquet")
    assert dict(zip(read["step"], read["loss"], strict=True)) == dict(zip(steps, table["loss"], strict=True))


@pytest.mark.parametrize("told", [b"", b"[]", b'{"index_columns": [{"kind": "range", "name": null}]}', b"{"])
def test_what_pandas_says_may_be_anything(tmp_path, told):
    """A file of somebody else is read by its columns."""
    columns = pa.table({"step": [1, 2], "loss": [1.0, 2.0]}).replace_schema_metadata({b"pandas": told})
    pq.write_table(columns, tmp_path / "log.parquet")
    assert ingest_runs(tmp_path / "log.parquet")["step"].tolist() == [1, 2]
