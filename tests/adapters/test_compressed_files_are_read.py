"""A file that gzip or zstd has compressed is read as the plain one, whatever it is called."""

from __future__ import annotations

import gzip
import random
import sys

import pytest
import zstandard

from rldk import event as event_json
from rldk.adapters import limits
from rldk.adapters.flat_jsonl import FlatJsonlAdapter
from rldk.adapters.tables import TableAdapter
from rldk.errors import MissingDependencyError, SourceError

LINES = b"".join(b'{"step": %d, "loss": 0.5}\n' % n for n in range(5000))
WAYS = {"gz": gzip.compress, "zst": zstandard.compress}


@pytest.mark.parametrize("suffix", WAYS)
def test_jsonl_is_unpacked(tmp_path, told, suffix):
    """Its run is called as the plain file would be."""
    path = tmp_path / f"log.jsonl.{suffix}"
    path.write_bytes(WAYS[suffix](LINES))
    adapter = FlatJsonlAdapter(str(path))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert len(told(events)) == 5000
    assert events[0].run_id == "log"


@pytest.mark.parametrize("suffix", WAYS)
def test_a_table_is_unpacked(tmp_path, told, suffix):
    """The name plays no part."""
    path = tmp_path / "table"
    path.write_bytes(WAYS[suffix](b"step,loss\n1,0.5\n"))
    assert TableAdapter(str(path)).can_handle()
    assert told(TableAdapter(str(path)).events()) == [(1, {"loss": 0.5})]


@pytest.mark.parametrize("suffix", WAYS)
def test_what_is_whole_of_a_torn_file_is_read(tmp_path, told, suffix):
    """The rest is told of."""
    noise = random.Random(0)  # noqa: S311  # it is to compress badly
    lines = b"".join(b'{"step": %d, "loss": %a}\n' % (n, noise.random()) for n in range(50_000))
    packed = WAYS[suffix](lines)
    path = tmp_path / f"log.jsonl.{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    adapter = FlatJsonlAdapter(str(path))
    count = len(told(adapter.events()))
    assert 0 < count < 50_000
    assert "the rest cannot be read" in adapter.problems[0]


@pytest.mark.parametrize("suffix", WAYS)
def test_an_opened_file_can_be_read_from_an_offset(tmp_path, make_event, suffix):
    """As journals are."""
    line = event_json.encode(make_event(metrics={"a": 1.0})) + b"\n"
    path = tmp_path / "r_events.jsonl"
    path.write_bytes(WAYS[suffix](line * 3))
    with limits.opened(path) as file:
        file.seek(len(line))
        assert file.readline(1000) == line
        assert file.tell() == 2 * len(line)


def test_without_zstandard_it_says_what_to_install(tmp_path, monkeypatch):
    """The file is still recognised by its name."""
    path = tmp_path / "log.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    adapter = FlatJsonlAdapter(str(path))
    assert adapter.can_handle()
    with pytest.raises(MissingDependencyError, match=r"rldk\[zstd\]"):
        list(adapter.events())


def test_a_frame_that_wants_too_much_memory_is_refused(tmp_path):
    """A zstd frame may ask for a window of gigabytes."""
    big = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    path = tmp_path / "log.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=big).stream_writer(file) as out:
        out.write(LINES)
    with pytest.raises(SourceError, match="damaged"):
        list(FlatJsonlAdapter(str(path)).events())
