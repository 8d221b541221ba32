"""`rldk ingest` shows what a source holds, or writes the whole table."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from rldk.cli import app
from rldk.journal import Journal


@pytest.fixture
def path(tmp_path, make_event):
    """A journal with a missing value, a NaN and an infinity."""
    path = tmp_path / "r_events.jsonl"
    rows = [{"loss": 0.5}, {"loss": float("nan"), "mine": 1.0}, {"loss": float("inf")}]
    with Journal(path) as journal:
        for seq, metrics in enumerate(rows):
            journal.append(make_event(seq=seq, step=seq, time=100.0 + seq, metrics=metrics))
    return path


def rldk(*words):
    """Call the command."""
    return CliRunner().invoke(app, ["ingest", *map(str, words)])


def test_a_first_look_tells_adapter_steps_and_the_first_bad_step(path):
    """Without an output nothing is written."""
    done = rldk(path)
    assert done.exit_code == 0, done.output
    assert "read by trl: 3 rows" in done.output
    assert "0 to 2" in done.output
    assert "│ 1 " in done.output


def test_csv_keeps_missing_and_nan_apart(path, tmp_path):
    """An empty cell was not measured; NaN and Infinity were."""
    assert rldk(path, "-o", tmp_path / "t.csv").exit_code == 0
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, dtype=str)
    assert table["loss"].tolist() == ["0.5", "NaN", "Infinity"]
    assert table["mine"].tolist() == ["", "1.0", ""]


def test_jsonl_keeps_them_apart_too(path):
    """On standard output, where no file is named."""
    done = rldk(path, "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["loss"] for row in rows] == [0.5, "NaN", "Infinity"]
    assert ["mine" in row for row in rows] == [False, True, False]


def test_parquet_is_read_back_as_it_was(path, tmp_path):
    """With the dtypes of the table."""
    from rldk.ingest import ingest_runs

    assert rldk(path, "-o", tmp_path / "t.parquet").exit_code == 0
    back = pd.read_parquet(tmp_path / "t.parquet")
    assert back["mine"].isna().tolist() == ingest_runs(path)["mine"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize("given", ["mine=reward_mean", "file.toml", "file.json"])
def test_a_field_map_is_given_outright_or_in_a_file(tmp_path, given):
    """For flat logs of other tools."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "mine": 0.25}\n')
    (tmp_path / "file.toml").write_text('mine = "reward_mean"\n')
    (tmp_path / "file.json").write_text('{"mine": "reward_mean"}')
    option = given if "=" in given else tmp_path / given
    done = rldk(log, "--format", "jsonl", "--field-map", option)
    assert json.loads(done.stdout)["reward_mean"] == 0.25


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere",), 3, "there is no such file"),
        (("{path}", "-o", "t.xyz"), 2, "a name ending in"),
        (("{path}", "--format", "parquet"), 2, "an --output file"),
        (
            ("{path}", "--format", "table", "-o", "t.csv"),
            2,
            "--format='table' cannot be used; give csv",
        ),
        (("{path}", "--format", "table", "-o", "folder/"), 2, "--format='table' cannot be used"),
        (("{path}", "--field-map", "nothing"), 2, "RAW=CANONICAL"),
        (("{path}", "--attempts", "some"), 2, "latest or all"),
        (("{path}", "-o", "{path}", "--format", "csv"), 2, "which would be lost"),
        (("{path}", "-o", "/nowhere/t.csv"), 2, "a file that can be written"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(path, words, code, said):
    """With what to give instead."""
    done = rldk(*(word.format(path=path) for word in words))
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_the_progress_bar_shows_no_secret(monkeypatch):
    """Not even the end of one that is cut off at the front."""
    shown = []

    @contextmanager
    def bar():
        yield SimpleNamespace(
            add_task=lambda *_, **__: 0, update=lambda _, description, **__: shown.append(description)
        )

    monkeypatch.setattr(sys.modules["rldk.cli.app"], "progress_bar", bar)
    with sys.modules["rldk.cli.app"].reading_bar() as watch:
        watch(f"mlflow+postgresql://me:{'hunter2' * 9}@db/runs#{'r' * 20}", 1, 1)
    assert "hunter2" not in shown[0]
    assert shown[0].endswith("@db/runs#" + "r" * 20)


def test_a_first_look_is_short_for_many_runs_with_long_ids(tmp_path, make_event):
    """It shows the first 20 of them, and counts the others."""
    path = tmp_path / "many_events.jsonl"
    with Journal(path) as journal:
        for seq in range(1000):
            info = {"run_id": f"run-{seq:04} [b]{'x' * 3000}", "phase": "train", "segment": 0}
            journal.append(make_event(seq=seq, time=100.0 + seq, metrics={"loss": 0.5}, model_info=info))
    done = rldk(path)
    assert done.exit_code == 0, done.output
    assert "\nand 980 more\n" in done.output
    assert len(done.output) < 20_000
