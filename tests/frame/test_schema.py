"""A table can be checked against the declared schema, and given its dtypes back."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rldk.errors import SchemaError
from rldk.frame import training_metrics
from rldk.ingest import ingest_runs
from rldk.schema import COLUMNS, DTYPES, SEGMENT, UNITS, conformed, validate
from tests.adapters._sources import SOURCES


@pytest.fixture
def table(make_event):
    """A table of two runs with missing, broken and infinite values."""
    values = [{"loss": 0.5}, {"loss": math.nan, "x": -0.0}, {"loss": math.inf}, {}]
    return training_metrics(
        make_event(
            step=step,
            metrics=metrics,
            rng={"seed": 2**60 + 1},
            data_slice={"tokens_in": step},
            model_info={"run_id": run_id, "phase": "train", "segment": 0, "git_sha": "abc"},
        )
        for run_id in ("a", "b")
        for step, metrics in enumerate(values)
    )


def faults(table):
    """What is wrong with a table."""
    with pytest.raises(SchemaError) as caught:
        validate(table)
    return caught.value.faults


@pytest.mark.parametrize(("make", "adapter"), SOURCES)
@pytest.mark.parametrize("attempts", ["latest", "all"])
def test_every_table_that_is_read_is_one(tmp_path, make, adapter, attempts):
    """Of whatever source."""
    table = ingest_runs(make(tmp_path), attempts=attempts)
    assert validate(table) is table
    assert (SEGMENT.name in table) == (attempts == "all")


def test_an_empty_table_is_one():
    """It has the columns of any other."""
    validate(training_metrics([]))


def test_each_fault_is_named(table):
    """By itself, and with what it is about."""
    assert faults(table.drop(columns=["seed", "phase"])) == ["columns are missing: phase, seed"]
    assert faults(table.astype({"x": "float64", "step": "Int64"})) == [
        "column step is Int64, not int64",
        "column x is float64, not Float64",
    ]
    assert faults(table.assign(note="text")) == [f"column note is {pd.Series(['x']).dtype}, not Float64"]
    assert faults(pd.concat([table, table[["loss"]]], axis=1)) == ["columns are there twice: loss"]
    assert faults(pd.concat([table, table[:2]])) == [
        "2 rows repeat another one's run_id, step, phase; the first: a, 0, train"
    ]
    assert faults(table.assign(run_id=pd.array([None, *"aaabbbb"], dtype="string"))) == [
        "run_id is missing in 1 rows"
    ]


def test_all_faults_are_named_at_once(table):
    """Those of the rows beside those of the columns."""
    broken = pd.concat([table, table[:1]]).drop(columns="seed").astype({"x": "object"})
    assert len(faults(broken)) == 3
    with pytest.raises(SchemaError, match=r"seed; column x .* rows repeat .*conformed"):
        validate(broken)


def test_attempts_may_repeat_a_row(make_event):
    """Where a column says which start wrote it."""
    info = [{"run_id": "r", "phase": "train", "segment": segment} for segment in (0, 1)]
    table = training_metrics([make_event(model_info=each) for each in info], attempts="all")
    validate(table)
    assert "2 rows" not in faults(table.drop(columns=SEGMENT.name))[0]


def exact(table):
    """Everything of a table that can differ."""
    return {name: (str(column.dtype), repr(column.tolist())) for name, column in table.items()}


@pytest.fixture
def csv(table, tmp_path):
    """The table as `rldk ingest` writes it: an empty cell is missing, NaN is a value."""
    path = tmp_path / "t.csv"
    text = table.astype(object).where(table.notna(), "").map(lambda v: "NaN" if v != v else v)  # noqa: PLR0124
    text.to_csv(path, index=False)
    return path


def test_a_csv_that_was_read_as_text_is_the_table_again(table, csv):
    """To the last digit."""
    read = pd.read_csv(csv, dtype=str, keep_default_na=False)
    assert exact(validate(conformed(read))) == exact(table)


def test_a_csv_that_pandas_has_read_gets_its_dtypes(table, csv):
    """What pandas takes for missing is missing."""
    read = pd.read_csv(csv)
    assert len(faults(read)) > 5
    told = validate(conformed(read))
    assert [told[name].tolist() for name in ("step", "run_id", "seed")] == [
        table[name].tolist() for name in ("step", "run_id", "seed")
    ]
    assert told["loss"].isna().tolist() == [False, True, False, True] * 2


def test_whole_numbers_may_be_spelled_as_floats():
    """As pandas writes them beside holes."""
    part = pd.DataFrame({"step": ["1", "2"], "phase": "train", "run_id": "r", "seed": ["42.0", ""]})
    assert conformed(part)["seed"].tolist() == [42, pd.NA]


def test_columns_are_added(table):
    """Index and attrs stay."""
    part = pd.DataFrame({"step": [1.0], "phase": "eval", "run_id": "r", "x": [2]}, index=[7])
    part.attrs["problems"] = ["one"]
    told = validate(conformed(part))
    assert list(told) == [*DTYPES, "x"]
    assert math.isnan(told["wall_time"][7])
    assert told["loss"].isna().all()
    assert told.attrs == {"problems": ["one"]}
    assert exact(conformed(table)) == exact(table)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"loss": ["low", "high"]}, "column loss cannot be Float64"),
        ({"step": [1.5, 2.0]}, "column step cannot be int64"),
        ({"step": [1.0, math.nan]}, "column step cannot be int64"),
        ({"tokens_in": ["0.5", "1"]}, "column tokens_in cannot be Int64"),
        ({"tokens_in": pd.Series([0.5, 1.0], dtype=object)}, "column tokens_in cannot be Int64"),
        ({"tokens_in": [0.5, 1.0]}, "column tokens_in cannot be Int64"),
        ({"tokens_in": [2**70, 1]}, "column tokens_in cannot be Int64"),
        ({"loss": ["1_0", "1"]}, "column loss cannot be Float64: .*'1_0'"),
        ({"step": ["1_0", "1"]}, "column step cannot be int64: .*'1_0'"),
        ({"tokens_in": ["1_0.0", "1"]}, "column tokens_in cannot be Int64: .*'1_0.0'"),
        ({"segment": ["x", "1"]}, "column segment cannot be Int64"),
    ],
)
def test_what_no_dtype_can_hold_is_named(column, said):
    """Nothing is rounded, and nothing left out."""
    part = pd.DataFrame({"step": [1, 2], "phase": "train", "run_id": "r"} | column)
    with pytest.raises(SchemaError, match=said):
        conformed(part)


def test_a_column_that_is_there_twice_is_named(table):
    """Which of them is meant, nobody knows."""
    with pytest.raises(SchemaError, match="columns are there twice: loss"):
        conformed(pd.concat([table, table[["loss"]]], axis=1))


def test_every_unit_is_declared_for_a_column():
    """And every column that is no metric has its meaning."""
    assert UNITS.keys() <= {*DTYPES, SEGMENT.name}
    assert all(column.meaning for column in COLUMNS if column.dtype != "Float64")
