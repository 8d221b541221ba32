"""What our reader says of a whole file is what wandb's own protobuf classes say of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import wandb

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
