"""No file makes an adapter take more memory than a bound, or fail with anything but RLDK's own error."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib

import pytest

from rldk.schema import DTYPES

MEMORY = 700 * 2**20  # of which pandas and pyarrow, where they are imported, take a part
GIB = 2**30

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({memory}, {memory}))
from rldk.errors import RLDKError
from {module} import {name} as Adapter
adapter = Adapter(sys.argv[1])
known = adapter.can_handle()
try:
    count = sum(1 for _ in adapter.events())
    print("read", count, known, *adapter.problems)
except RLDKError as error:
    print("error", known, error)
"""

ADAPTERS = {
    "jsonl": ("rldk.adapters.flat_jsonl", "FlatJsonlAdapter"),
    "own": ("rldk.adapters.metrics_table", "MetricsTableAdapter"),
    "table": ("rldk.adapters.tables", "TableAdapter"),
    "state": ("rldk.adapters.trainer_state", "TrainerStateAdapter"),
    "tensorboard": ("rldk.adapters.tensorboard", "TensorBoardAdapter"),
    "mlflow": ("rldk_mlflow.folder", "MLflowFolderAdapter"),
}


OWN = ",".join(DTYPES).encode()
OWN_ROW = b"1,train,,,,,,,,,,,0.5,,r,"


def read(path, adapter):
    """Read in a process with little memory and a minute's time: what it says."""
    module, name = ADAPTERS[adapter]
    program = CHILD.format(memory=MEMORY, module=module, name=name)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def zeros(path, head=b"", tail=b""):
    """A gibibyte of zeros in a megabyte of gzip."""
    member = gzip.compress(bytes(64 * 2**20), 1)
    path.write_bytes(gzip.compress(head) + member * 16 + gzip.compress(tail))
    return path


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_gibibyte_without_a_newline(tmp_path, adapter):
    """Plain and sparse, as long as the name fits."""
    path = tmp_path / "x.csv"
    path.touch()
    os.truncate(path, GIB)
    assert read(path, adapter).startswith("error False")


@pytest.mark.parametrize(
    ("adapter", "head", "tail"),
    [
        ("jsonl", b'{"step": 1, "a": 1}\n', b'\n{"step": 2, "a": 1}\n'),
        ("table", b"step,a\n1,1\n", b"\n2,1\n"),
        ("own", OWN + b"\n" + OWN_ROW + b"\n", b"\n" + OWN_ROW + b"\n"),
    ],
)
def test_a_bomb_between_two_rows(tmp_path, adapter, head, tail):
    """The line is skipped, and what comes after it is read."""
    said = read(zeros(tmp_path / "x.gz", head, tail), adapter)
    assert said.startswith("read 3 True")
    assert "longer than 16 MiB" in said


def test_a_bomb_in_a_state(tmp_path):
    """One value that large is no log."""
    said = read(zeros(tmp_path / "x.gz", b'{"log_history": [{"step": 1}, "', b'"]}'), "state")
    assert said.startswith("error True")
    assert "16 MiB" in said


def test_a_line_that_goes_on_for_ever_ends_the_reading(tmp_path):
    """Two gibibytes of it are too much."""
    member = gzip.compress(bytes(64 * 2**20), 1)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b'{"step": 1, "a": 1}\n') + member * 40)
    assert "the rest is not read" in read(path, "jsonl")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_nested_deep(tmp_path, opening):
    """Ten thousand deep, and a million."""
    for depth in (10_000, 1_000_000):
        path = tmp_path / "x.json"
        path.write_bytes(b'{"step": 1, "a": 1}\n{"step": 2, "a": ' + opening * depth + b"\n")
        assert read(path, "jsonl").startswith("read 2 True")
        path.write_bytes(b'{"log_history": [{"step": 1, "a": ' + opening * depth)
        assert read(path, "state").startswith("error True")
        (tmp_path / "run.json").write_bytes(b'{"mlflow": {"metrics": {"a": ' + opening * depth)
        assert read(tmp_path, "mlflow").startswith("error")


def test_ten_million_columns(tmp_path):
    """In a header, in one line, and in many."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"step," + b",".join(b"%x" % n for n in range(10_000_000)) + b"\n")
    assert read(path, "table").startswith("error True")
    path.write_bytes(b"step," + b",".join(b"%x" % n for n in range(1_000_000)) + b"\n")
    assert "100,000 columns" in read(path, "table")
    path.write_bytes(
        b'{"step":1,"a":1}\n{"step":1' + b"".join(b',"%x":1' % n for n in range(1_000_000)) + b"}\n"
    )
    assert "more than 200,000 keys" in read(path, "jsonl")
    path.write_bytes(b"".join(b'{"step":1,"%x":1}\n' % n for n in range(1_000_000)))
    assert "100,000 different metrics" in read(path, "jsonl")
    path.write_bytes(b"step,metric,value\n" + b"".join(b"1,%x,1\n" % n for n in range(1_000_000)))
    assert "100,000 different metrics" in read(path, "table")
    lines = (b'{"step":1,"phase":"eval","wall_time":0,"run_id":"%x"}\n' % n for n in range(200_000))
    path.write_bytes(b"".join(lines))
    assert "100,000 different runs" in read(path, "own")
    path.write_bytes(OWN + b"," + b",".join(b"%x" % n for n in range(1_000_000)) + b"\n")
    assert "100,000 columns" in read(path, "own")
    path.write_bytes(b"".join(b'{"step":1,"run":"%x","a":1}\n' % n for n in range(1_000_000)))
    assert "100,000 different runs" in read(path, "jsonl")


def test_a_parquet_file_of_many_columns(tmp_path):
    """Its description is not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({f"c{n}": [1] for n in range(120_000)}), path)
    said = read(path, "table")
    assert said.startswith("error True")


def test_a_parquet_file_with_a_huge_cell(tmp_path):
    """A column of text is passed over, and what is needed of it is refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, cell = tmp_path / "x.parquet", "x" * (400 * 2**20)
    for name, expected in (("prompt", "read 2 True"), ("run", "read 2 True")):
        pq.write_table(
            pa.table({"step": [1], "loss": [0.5], name: pa.array([cell], pa.large_string())}), path
        )
        assert read(path, "table").startswith(expected)


def test_a_csv_cell_over_many_lines(tmp_path):
    """A quote that is never closed costs rows, and not memory."""
    path = tmp_path / "x.csv"
    path.write_bytes(b'step,a\n1,1\n2,"' + b"x" * 1000 + b"\n" * 10 + (b"y" * 999 + b"\n") * 200_000)
    assert read(path, "table").startswith("read 2 True")


def test_own_parquet_with_a_huge_cell(tmp_path):
    """What must be there is refused, and what need not be is passed over."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, cell = tmp_path / "x.parquet", pa.array(["x" * (400 * 2**20)], pa.large_string())
    row = {name: [1.0] for name in DTYPES}
    row |= {"step": [1], "phase": ["train"], "run_id": ["r"], "git_sha": ["x"]}
    pq.write_table(pa.table(row | {"prompt": cell}), path)
    assert read(path, "own").startswith("read 2 True")
    pq.write_table(pa.table(row | {"run_id": cell}), path)
    assert "it lacks run_id" in read(path, "own")


def test_an_event_file_with_records_as_large_as_they_say(tmp_path):
    """A length of exabytes with the right checksum."""
    from rldk.adapters.tfevents import _head_checksum

    path = tmp_path / "events.out.tfevents.1"
    body = b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"
    head = len(body).to_bytes(8, "little")
    huge = (2**62).to_bytes(8, "little")
    record = head + _head_checksum(head).to_bytes(4, "little") + body + bytes(4)
    path.write_bytes(record + huge + _head_checksum(huge).to_bytes(4, "little") + zlib.compress(b"x"))
    assert read(path, "tensorboard").startswith("error True")


def test_wrong_kinds_of_things(tmp_path):
    """A folder where a file should be, a file without permission, nothing."""
    (tmp_path / "folder.jsonl").mkdir()
    for adapter in ADAPTERS:
        for name in ("folder.jsonl", "missing"):
            said = read(tmp_path / name, adapter)
            assert said.startswith("error False")
            assert name in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    """It says so."""
    path = tmp_path / "x.jsonl"
    path.write_text("{}")
    path.chmod(0)
    for adapter in ADAPTERS:
        assert "ermission" in read(path, adapter)
