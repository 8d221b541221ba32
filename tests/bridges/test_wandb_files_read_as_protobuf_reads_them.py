"""What our reader says of a whole file is what wandb's own protobuf classes say of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wandb

from rldk.event import spell_non_finite
from rldk_wandb.offline import WandbFile
from tests.bridges._wandb_runs import forget_wandb, protobuf_records, wandb_file, wandb_offline  # noqa: F401

pytestmark = pytest.mark.real

# A real file, written by wandb 0.10.20.dev1 in 2021: run-g9dvvkua.wandb of a public code sample.
OLD_FILE = Path(__file__).parent / "data" / "run-g9dvvkua.wandb"

RICH_ROWS = [
    {"loss": 0.5, "steps": 3, "whole": 4.0, "flag": True, "text": "NaN", "nothing": None},
    {"bad": math.nan, "up": math.inf, "down": -math.inf, "np": np.float32("nan")},
    {"nested": {"a": {"b": 1}, "c": [1, 2.5, None]}, "nested.a.b": 2, "ünï": "→", "": 1, "half": "\ud800"},
    {"wide": 2**63 - 1, "wider": 2**70, "least": -(2**63), "tiny": 5e-324, "long": "x" * 100_000},
    {"histogram": np.arange(100), "_timestamp": 1763847600.123},
    {},
]


def write(rows, **settings):
    """Log rows, and config in several updates, to a real offline run."""
    with wandb.init(id="rich", config={"lr": 0.1, "gone": 1}, settings=wandb.Settings(**settings)) as run:
        for row in rows:
            run.log(row)
        run.config.update({"optimizer": {"name": "adam", "betas": [0.9, 0.99]}})
        run.config["optimizer"]["name"] = "sgd"
        run.config.update({"lr": 0.2}, allow_val_change=True)
        run.name = "renamed"
    forget_wandb()


def rows_by_protobuf(path):
    """The rows of a file, with wandb's classes."""
    for record in protobuf_records(path):
        if record.HasField("history"):
            row = {}
            for item in record.history.item:
                *outer, last = list(item.nested_key) or [item.key]
                inner = row
                for name in outer:
                    inner = inner.setdefault(name, {})
                inner[last] = value_by_protobuf(item)
            yield row


def value_by_protobuf(item):
    """The typed value where there is one, else the JSON text."""
    kind = item.WhichOneof("value")
    typed = getattr(item, kind) if kind not in {None, "none"} else None
    return json.loads(typed or item.value_json) if kind in {None, "json"} else typed


@pytest.mark.parametrize("encoding", ["json", "json,typed"])
def test_rows(tmp_path, encoding):
    """Every row is the same, of every kind of value, in both encodings."""
    write(RICH_ROWS, x_history_value_encoding=encoding)
    file = WandbFile(wandb_file(tmp_path))
    ours, theirs = list(file.rows()), list(rows_by_protobuf(file.path))
    assert len(ours) == len(RICH_ROWS)
    assert repr(list(map(ordered, ours))) == repr(list(map(ordered, theirs)))  # repr tells NaN and 4.0 apart
    assert file.damage.sentences() == []


def ordered(row):
    """A row with its keys in order."""
    return dict(sorted(row.items()))


@pytest.mark.parametrize("encoding", ["json", "json,typed"])
def test_rows_as_leet_shows_them(tmp_path, encoding):
    """W&B's own reader prints the same rows; it joins nested names by dots, and quotes what is not finite."""
    rows = [*RICH_ROWS[:2], {"nested": {"a": {"b": 1}, "c": [1, 2.5, None]}}, *RICH_ROWS[3:]]
    write(rows, x_history_value_encoding=encoding)
    leet = Path(sys.executable).with_name("wandb")
    command = [leet, "leet", "inspect", "--json", wandb_file(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    theirs = [record["history"]["item"] for record in map(json.loads, said) if record["type"] == "history"]
    assert [dict(as_leet_shows(row)) for row in WandbFile(wandb_file(tmp_path)).rows()] == theirs


def as_leet_shows(row, head=""):
    """The names and values of a row; what is nested by the whole name, and by its name what is not finite."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from as_leet_shows(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", spell_non_finite(value)


@pytest.mark.parametrize("rows", [3, 700])
def test_the_summary(tmp_path, rows):
    """It is what all changes in the file make of it, whether they come with rows or by themselves."""
    with wandb.init(id="rich") as run:
        run.define_metric("least", summary="min,max")
        run.summary["first"] = 1
        for i in range(rows):
            run.log({"loss": i / 7, "least": -i, "nested": {"a": i}} | ({"eval": i} if i % 100 == 2 else {}))
            if i % 300 == 1:
                run.summary.update({"loss": "mine", "best": i})
    forget_wandb()
    assert WandbFile(wandb_file(tmp_path)).run().summary == summary_by_protobuf(wandb_file(tmp_path))


def summary_by_protobuf(path):
    """The summary, with wandb's classes, one change after the other."""
    tree = {}
    for record in protobuf_records(path):
        for item in record.summary.update:
            *outer, last = list(item.nested_key) or [item.key]
            inner = tree
            for name in outer:
                inner = inner.setdefault(name, {})
            inner[last] = json.loads(item.value_json)
    return tree


def test_typed_values_keep_what_json_loses(tmp_path):
    """Where W&B writes typed values too, 4.0 stays a float."""
    write([{"whole": 4.0}], x_history_value_encoding="json,typed")
    (row,) = WandbFile(wandb_file(tmp_path)).rows()
    assert type(row["whole"]) is float


def test_the_run(tmp_path):
    """The run is the sum of its records: the last name, each change of the config, how it ended."""
    write([])
    run = WandbFile(wandb_file(tmp_path)).run()
    records = [record.run for record in protobuf_records(wandb_file(tmp_path)) if record.HasField("run")]
    assert len(records) > 1
    assert (run.run_id, run.name, run.project) == ("rich", "renamed", records[0].project)
    assert run.start_time == pytest.approx(records[0].start_time.ToNanoseconds() / 1e9, abs=1e-3)
    assert run.config["optimizer"] == {"name": "sgd", "betas": [0.9, 0.99]}
    assert (run.config["lr"], run.exit_code) == (0.2, 0)


def test_exit_codes(tmp_path):
    """How the run ended is read, and a run that is still going has not ended."""
    run = wandb.init()
    assert WandbFile(wandb_file(tmp_path)).run().exit_code is None
    run.finish(exit_code=255)
    forget_wandb()
    assert WandbFile(wandb_file(tmp_path)).run().exit_code == 255


def test_a_file_of_2021():
    """A file of 2021, whose records bear no numbers, reads without complaint."""
    file = WandbFile(OLD_FILE)
    run = file.run()
    record = next(record.run for record in protobuf_records(OLD_FILE) if record.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert (run.run_id, run.project, run.start_time, run.exit_code) == (
        "g9dvvkua",
        "code-toad",
        1613519047.0,
        0,
    )
    assert run.config == config
    assert file.damage.sentences() == []
