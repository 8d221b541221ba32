"""A source that no adapter recognises: the error says in one line what is wrong with it, and what to do."""

from __future__ import annotations

import gzip
import os
import sqlite3

import pytest

from rldk.bridge import adapters
from rldk.errors import SourceError, UnknownSourceError
from rldk.ingest import ingest_runs

NOISE = bytes(range(255, 1, -1)) * 4
FILES = {
    "empty.csv": (b"", "it is empty"),
    "trainer_state.json": (b"", "it is empty"),
    "mlflow.db": (NOISE, "it is not an SQLite database"),
    "run.parquet": (NOISE, "it is not a Parquet file"),
    "run-abc.wandb": (NOISE, "it is not a W&B record"),
    "torn.jsonl": (b'{"step": 1, "los', "its JSON is malformed, or was not written to its end"),
    "torn.jsonl.gz": (gzip.compress(b'{"step'), "its JSON is malformed, or was not written to its end"),
    "half.jsonl.gz": (gzip.compress(NOISE)[:12], "it is compressed, and damaged or cut off"),
    "wide.csv": ("step,loss\n1,2\n".encode("utf-16"), "it is UTF-16 text"),
    "latin.csv": ("größe,wert\n1,2\n".encode("latin-1"), "it is not UTF-8 text"),
    "other.csv": (b"name,value\na,2\n", "its first line names no column that is a step"),
    "other.json": (b'{\n "a": 1\n}\n', "it is JSON, but holds no step with numbers"),
    "words.jsonl": (b"not json\n", "its first line is no JSON object"),
    "words.txt": (b"hello\nworld\n", "it is text of no known layout"),
}


def said(source):
    """What the error says of a source."""
    with pytest.raises(UnknownSourceError) as caught:
        ingest_runs(str(source))
    text = str(caught.value)
    assert text.startswith(f"cannot read {source}: ")
    assert len(text) < len(str(source)) + 250
    assert "; " in text
    assert caught.value.adapters == tuple(sorted(adapters()))
    return text


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_what_is_wrong_with_it(tmp_path, name):
    """By its bytes, and by what its name promises."""
    content, reason = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert reason in said(tmp_path / name)


def test_a_database_of_something_else_is_told(tmp_path):
    """It is sound, and not MLflow's."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as database:
        database.execute("create table a (b)")
    database.close()
    assert "it is an SQLite database without the tables of MLflow" in said(path)


def test_a_folder_is_told(tmp_path):
    """Whether anything is in it."""
    (tmp_path / "empty").mkdir()
    assert "it is an empty folder" in said(tmp_path / "empty")
    assert "it is a folder that holds no run" in said(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [("", "it is empty"), ('{"log_history": []', "it is cut")])
def test_a_checkpoint_is_told_what_is_wrong_with_its_state(tmp_path, content, reason):
    """It is known by the name of the file in it."""
    (tmp_path / "trainer_state.json").write_text(content)
    with pytest.raises(SourceError, match=rf"trainer_state.json: passed over, .*: {reason}"):
        ingest_runs(str(tmp_path))


def test_a_pipe_is_not_opened(tmp_path):
    """It would never end."""
    os.mkfifo(tmp_path / "pipe")
    assert "it is no regular file" in said(tmp_path / "pipe")


def test_what_is_not_there_and_what_is_an_address(tmp_path):
    """Neither is a file that could be looked into."""
    assert "there is no such file or folder" in said(tmp_path / "nope")
    assert "no adapter takes such an address" in said("ftp://host/run")
