"""A journal that was made to do harm gives a clear error or a counted skip, in bounded memory."""

from __future__ import annotations

import gzip
import resource

import pytest

from rldk import event as event_json
from rldk.adapters.trl import TRLAdapter
from rldk.errors import SourceError
from rldk.ingest import ingest_runs
from rldk.rows import MOST_NAMES

HEAD = b'{"step":1,"wall_time":0,"metrics":{'
TAIL = b'},"rng":{},"data_slice":{},"model_info":{"run_id":"r"},"notes":[]}\n'


def test_names_that_are_never_the_same(tmp_path):
    """Over many lines, and in one."""
    path = tmp_path / "r_events.jsonl"
    path.write_bytes(b"".join(HEAD + b'"%x":1' % n + TAIL for n in range(MOST_NAMES + 1)))
    with pytest.raises(SourceError, match="more than 100,000 different metrics"):
        ingest_runs(path)
    path.write_bytes(HEAD + b",".join(b'"%x":1' % n for n in range(MOST_NAMES + 1)) + TAIL)
    with pytest.raises(SourceError, match="more than 100,000 different metrics"):
        ingest_runs(path)


def test_one_of_many_such_journals_stops_no_other(tmp_path, make_event):
    """It is told."""
    (tmp_path / "good_events.jsonl").write_bytes(event_json.encode(make_event(metrics={"loss": 1.0})) + b"\n")
    names = b",".join(b'"%x":1' % n for n in range(MOST_NAMES + 1))
    (tmp_path / "bad_events.jsonl").write_bytes(HEAD + names + TAIL)
    table = ingest_runs(tmp_path)
    assert table["loss"].tolist() == [1.0]
    assert "different metrics" in table.attrs["problems"][0]


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_json_nested_deep(tmp_path, make_event, depth):
    """The line is no event; the one behind it is read."""
    path = tmp_path / "r_events.jsonl"
    good = event_json.encode(make_event(step=2, metrics={"loss": 1.0})) + b"\n"
    path.write_bytes(HEAD + b'"a":' + b"[" * depth + b"]" * depth + TAIL + good)
    adapter = TRLAdapter(path)
    assert [event.step for event in adapter.events()] == [2]
    assert "1 lines are no events, the first is line 1" in adapter.problems[0]


def test_a_bomb_between_two_events(tmp_path, make_event):
    """A gibibyte of zeros in a megabyte is skipped, and no more of it is held than the longest line."""
    lines = [event_json.encode(make_event(step=n, metrics={"loss": 1.0})) + b"\n" for n in (1, 2)]
    bomb = gzip.compress(bytes(64 * 2**20), 1) * 16
    path = tmp_path / "r_events.jsonl.gz"
    path.write_bytes(gzip.compress(lines[0]) + bomb + gzip.compress(b"\n" + lines[1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    adapter = TRLAdapter(path)
    assert [event.step for event in adapter.events()] == [1, 2]
    assert "longer than 64 MiB" in adapter.problems[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024
