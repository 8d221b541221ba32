"""Each line says which format it has: files and folders may hold both."""

from __future__ import annotations

import json

from rldk import event as event_json
from rldk.adapters.trl import TRLAdapter
from rldk.ingest import ingest_runs

LONG = json.dumps({"step": 2, "name": "kl", "value": 0.5, "run_id": "long"}).encode()


def wide(make_event, **fields):
    """One line of a journal."""
    return event_json.encode(make_event(metrics={"loss": 1.0}, **fields))


def test_a_folder_of_both_is_one_table(make_event, tmp_path):
    """A long file need not be called like a journal."""
    (tmp_path / "r_events.jsonl").write_bytes(wide(make_event) + b"\n")
    (tmp_path / "metrics.jsonl").write_bytes(LONG + b"\n")
    table = ingest_runs(tmp_path)
    assert table["run_id"].tolist() == ["long", "r"]
    assert table.attrs["adapter"] == "trl"


def test_one_file_of_both_is_read_line_by_line(make_event, tmp_path):
    """In the order in which they stand."""
    path = tmp_path / "both.jsonl"
    path.write_bytes(b"\n".join([wide(make_event), LONG, wide(make_event, step=3), b""]))
    assert [(event.step, set(event.metrics)) for event in TRLAdapter(path).events()] == [
        (1, {"loss"}),
        (2, {"kl_mean"}),
        (3, {"loss"}),
    ]


def test_a_folder_with_files_of_other_tools_is_read_around_them(make_event, tmp_path):
    """What holds no event and is not called like a journal is somebody else's."""
    (tmp_path / "r_events.jsonl").write_bytes(wide(make_event) + b"\n")
    (tmp_path / "completions.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    adapter = TRLAdapter(tmp_path)
    assert len(list(adapter.events())) == 1
    assert adapter.problems == []


def test_a_file_of_another_tool_is_not_recognised(tmp_path):
    """Names and values alone make no metric."""
    path = tmp_path / "other.jsonl"
    path.write_text('{"name": "a", "value": 1}\n')
    assert not TRLAdapter(path).can_handle()
