"""Two runs, and two quantities, never share a name; nothing is dropped."""

from __future__ import annotations

import json
import sys
from itertools import permutations

import pandas as pd
import pytest

from rldk import event as event_json
from rldk.errors import MissingDependencyError
from rldk.ingest import ingest_runs


def log(path, *rows):
    """A flat log of another tool."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def journal(path, events):
    """A journal."""
    path.write_bytes(b"".join(event_json.encode(event) + b"\n" for event in events))
    return path


def steps(table):
    """The steps of each run."""
    return {run: rows["step"].tolist() for run, rows in table.groupby("run_id")}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_name_that_is_made_up_is_no_real_one(tmp_path, order):
    """A third run may be called as the second would be."""
    logs = [
        log(tmp_path / "a" / "out.jsonl", {"step": 1, "loss": 1}),
        log(tmp_path / "b" / "out.jsonl", {"step": 2, "loss": 1}),
        log(tmp_path / "c" / "out-2.jsonl", {"step": 3, "loss": 1}),
    ]
    table = ingest_runs([logs[place] for place in order])
    assert set(steps(table)) == {"out", "out-2", "out-3"}
    assert steps(table)["out-2"] == [3]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_run_of_others_with_the_id_of_one_that_rldk_recorded(tmp_path, make_event, turn):
    """It keeps apart, in whatever order they are given."""
    own = journal(tmp_path / "own.jsonl", [make_event(step=7, metrics={"loss": 1.0})])
    other = log(tmp_path / "x" / "r.jsonl", {"step": 1, "loss": 2.0})
    table = ingest_runs([own, other][::turn])
    assert steps(table) == {"r": [7], "r-2": [1]}
    assert [problem for problem in table.attrs["problems"] if "called r too" in problem]


def test_a_step_that_is_logged_twice_is_told(tmp_path):
    """The last one is kept; what is logged at one step in parts is no repetition."""
    rows = [{"step": 1, "loss": 1}, {"step": 1, "loss": 2}, {"step": 1, "reward": 3}, {"step": 2, "loss": 4}]
    table = ingest_runs(log(tmp_path / "log.jsonl", *rows))
    assert (table["loss"].tolist(), table["reward_mean"][0]) == ([2.0, 4.0], 3.0)
    assert "run log: 1 logs have the step and the names of another one" in table.attrs["problems"][0]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_run_may_be_called_na(tmp_path, ending):
    """To a table that is text like any other."""
    path = tmp_path / f"log.{ending}"
    rows = pd.DataFrame({"run_id": ["", "", "NA", "NA"], "step": [0, 1, 0, 1], "loss": [1.0, 2.0, 3.0, 4.0]})
    rows.to_csv(path, index=False) if ending == "csv" else rows.to_parquet(path)
    assert {run: part["loss"].tolist() for run, part in ingest_runs(path).groupby("run_id")} == {
        "NA": [3.0, 4.0],
        "log": [1.0, 2.0],
    }


def test_a_file_name_of_raw_bytes(tmp_path, make_event):
    """It costs no other source anything."""
    odd = log(tmp_path / "log\udcff.jsonl", {"step": 1, "loss": 2.0})
    own = journal(tmp_path / "own.jsonl", [make_event(step=7, metrics={"loss": 1.0})])
    assert steps(ingest_runs([odd, own])) == {"log?": [1], "r": [7]}


def test_a_name_that_utf8_cannot_hold(tmp_path):
    """As Python's own json writes and reads it."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "a": NaN, "\\ud800x": 1.5}\n')
    assert ingest_runs(path)["?x"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("row", "field_map", "kept"),
    [
        ({"kl": 0.1, "my_kl": 0.2}, {"my_kl": "kl_mean"}, {"kl_mean": 0.2, "raw/kl_mean": 0.1}),
        ({"a": 0.1, "b": 0.2}, {"a": "kl_mean", "b": "kl_mean"}, {"kl_mean": 0.1, "raw/kl_mean": 0.2}),
        ({"train/loss": 0.1, "loss": 0.2}, {}, {"loss": 0.1, "raw/loss": 0.2}),
        ({"train/x": 0.1, "x": 0.2, "raw/x": 0.3}, {}, {"x": 0.1, "raw/x": 0.2, "raw/raw/x": 0.3}),
    ],
)
def test_two_quantities_under_one_name_keep_apart(tmp_path, row, field_map, kept):
    """The user's word goes before the catalog's; what has lost its name has `raw/` before it."""
    table = ingest_runs(log(tmp_path / "log.jsonl", {"step": 1, "reward": 0.5} | row), field_map=field_map)
    assert {name: table[name][0] for name in kept} == kept


def test_what_the_advice_says_leaves_evaluation_apart(tmp_path):
    """A key of an evaluation that is given a name stays in its row."""
    path = log(tmp_path / "log.jsonl", {"step": 1, "reward": 0.5}, {"step": 1, "eval_rewardd": 9.0})
    assert "--field-map eval_rewardd=reward_mean" in ingest_runs(path).attrs["problems"][0]
    table = ingest_runs(path, field_map={"eval_rewardd": "reward_mean"})
    assert dict(zip(table["phase"], table["reward_mean"], strict=True)) == {"train": 0.5, "eval": 9.0}


def test_evaluations_of_several_data_sets_are_known(tmp_path):
    """Their names have the data set in them."""
    row = {"step": 1, "eval_wiki_loss": 1.0, "eval_wiki_runtime": 2.0, "eval_wiki_samples_per_second": 3.0}
    table = ingest_runs(log(tmp_path / "log.jsonl", {"step": 1, "reward": 0.5, "kl": 0.1}, row))
    assert (table["wiki/loss"][1], table.attrs["unknown"]) == (1.0, {})


def test_a_library_that_one_run_lacks_stops_no_other(tmp_path, make_event, monkeypatch):
    """It is told; where there is no other, it is the error."""
    journal(tmp_path / "a_events.jsonl", [make_event(step=7, metrics={"loss": 1.0})])
    packed = tmp_path / "b_events.jsonl.zst"
    packed.write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    table = ingest_runs(tmp_path)
    assert steps(table) == {"r": [7]}
    assert [problem for problem in table.attrs["problems"] if "rldk[zstd]" in problem]
    with pytest.raises(MissingDependencyError, match="zstd"):
        ingest_runs(packed)
