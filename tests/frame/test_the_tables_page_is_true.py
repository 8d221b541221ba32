"""What docs/training_metrics.md says is so: the columns, the attrs, the examples and the traps of pandas."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from rldk import catalog
from rldk import event as event_json
from rldk.cli import app
from rldk.ingest import ingest_runs
from rldk.schema import COLUMNS, SEGMENT, conformed

PAGE = (Path(__file__).parents[2] / "docs" / "training_metrics.md").read_text()
METRICS = {metric.name: metric for metric in catalog.metrics()}


def rows(head):
    """The cells of the rows of each table that begins with a head."""
    found = re.findall(rf"^\| {re.escape(head)}.*\n\|[ \-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[[cell.strip() for cell in row[1:-1].split("|")] for row in t.splitlines()] for t in found]


def row_of(column):
    """What is to be said of a column: for a metric what the catalog says."""
    metric = METRICS.get(column.name)
    unit, meaning = (metric.unit, metric.meaning) if metric else (column.unit, column.meaning)
    return [f"`{column.name}`", column.dtype, unit, meaning]


def test_every_column_is_told_with_dtype_unit_and_meaning():
    """In the order of the table; where this fails, correct the page."""
    assert rows("column") == [[row_of(column) for column in COLUMNS], [row_of(SEGMENT)]]


@pytest.fixture
def folder(tmp_path, monkeypatch, make_event):
    """A folder with the journal of which the page speaks, and its tables."""
    monkeypatch.chdir(tmp_path)
    Path("rldk").mkdir()
    values = [{"loss": 0.5}, {"loss": float("nan")}, {"loss": float("-inf")}, {"kl_mean": 0.0, "my": 1.0}]
    info = {"run_id": "007", "phase": "train", "segment": 0, "trainer": "GRPO"}
    events = [make_event(step=step, metrics=told, model_info=info) for step, told in enumerate(values)]
    Path("rldk/abc123_events.jsonl").write_bytes(b"".join(event_json.encode(e) + b"\n" for e in events))
    for form in ("csv", "parquet"):
        done = CliRunner().invoke(app, ["ingest", "rldk/abc123_events.jsonl", "-o", f"table.{form}"])
        assert done.exit_code == 0, done.output
    return tmp_path


def exact(table):
    """Everything of a table that can differ."""
    return {name: (str(column.dtype), repr(column.tolist())) for name, column in table.items()}


def test_the_examples_run(folder):
    """One after another, and give what the page says."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        exec(block, names)  # noqa: S102  # the page is ours
    assert names["first"] == 1
    assert names["broken"].tolist() == [False, True, True, False]
    assert exact(names["again"]) == exact(names["table"]) == exact(names["exact"])


def test_the_attrs_are_those_of_a_table(folder):
    """Each is told, and no other."""
    attrs = ingest_runs("rldk/abc123_events.jsonl").attrs
    assert [name for name, _ in rows("in `df.attrs`")[0]] == [f"`{name}`" for name in attrs]


def test_pandas_takes_nan_for_missing(folder):
    """The day it does not, the page need not warn."""
    for read in (pd.read_csv("table.csv"), pd.read_parquet("table.parquet")):
        assert read["loss"].isna().tolist() == [False, True, False, True]
    assert ingest_runs("table.parquet")["loss"].isna().tolist() == [False, False, False, True]
    assert conformed(pd.read_csv("table.csv"))["run_id"].tolist()[0] == "7"
