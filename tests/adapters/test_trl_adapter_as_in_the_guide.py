"""TRLAdapter as the guide has it: can_handle, load, and one metric of one record."""

from __future__ import annotations

import gzip
import json
import math

import pytest
import zstandard

from rldk import event as event_json
from rldk.adapters.trl import TRLAdapter
from rldk.errors import SourceError
from rldk.ingest import ingest_runs

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.fixture
def lines(make_event):
    """A journal of three steps."""
    events = [make_event(seq=n, step=n, metrics={"loss": n / 2}, time=100.0 + n) for n in (1, 2, 3)]
    return b"".join(event_json.encode(event) + b"\n" for event in events)


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("ending", ["_events.jsonl", ".jsonl", ".ndjson"])
def test_a_journal_may_be_compressed(tmp_path, lines, packed, ending):
    """By itself and in a folder, under any name that tells of lines."""
    path = tmp_path / f"abc{ending}{packed}"
    path.write_bytes(PACK[packed](lines))
    for source in (path, tmp_path):
        assert TRLAdapter(source).can_handle()
        assert TRLAdapter(source).load()["loss"].tolist() == [0.5, 1.0, 1.5]
        assert ingest_runs(source).attrs["adapter"] == "trl"


def test_a_compressed_journal_that_was_cut_off_gives_what_is_whole(tmp_path, lines):
    """And says after which line it is damaged."""
    path = tmp_path / "abc_events.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-12])
    table = TRLAdapter(path).load()
    assert table["step"].tolist() == [1, 2]
    assert "damaged after line 2" in table.attrs["problems"][0]


def test_lines_that_are_no_events_are_told_once_with_the_first(tmp_path, lines, caplog):
    """Skipped and counted."""
    path = tmp_path / "abc_events.jsonl"
    first, *rest = lines.splitlines(keepends=True)
    path.write_bytes(first + b"garbage\n" + rest[0] + b'{"step": 1}\n[]\n' + rest[1])
    table = TRLAdapter(path).load()
    assert table["step"].tolist() == [1, 2, 3]
    said = [record.message for record in caplog.records if "abc_events" in record.message]
    assert len(said) == 1
    assert "3 lines are no events, the first is line 2" in said[0]


def test_a_log_of_somebody_else_is_read_by_the_flexible_adapter(tmp_path, caplog):
    """What is not known is listed, with what it may mean and how to tell."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "reward": 0.5, "kl": 0.1, "gradnorm": 2.0}\n')
    assert not TRLAdapter(path).can_handle()
    table = TRLAdapter(path).load()
    assert (table["reward_mean"].tolist(), table["gradnorm"].tolist()) == ([0.5], [2.0])
    assert "--field-map gradnorm=grad_norm" in caplog.text
    told = TRLAdapter(path).load(field_map={"gradnorm": "grad_norm"})
    assert (told["grad_norm"].tolist(), told.attrs["unknown"]) == ([2.0], {})


@pytest.mark.parametrize("text", ["", "garbage\n", '{"a": 1}\n'])
def test_what_holds_nothing_is_an_error_that_names_the_file(tmp_path, text):
    """With what to do."""
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"log\.jsonl: no line of it holds an event .*; check"):
        TRLAdapter(path).load()
    with pytest.raises(SourceError, match="there is no such file"):
        TRLAdapter(tmp_path / "nowhere").load()


@pytest.mark.parametrize(
    ("record", "metric", "value"),
    [
        ({"step": 1, "metrics": {"kl_mean": 0.5}}, "kl_mean", 0.5),
        ({"step": 1, "metrics": {"kl_mean": "NaN"}}, "kl_mean", math.nan),
        ({"step": 1, "metrics": {"kl_mean": None}}, "kl_mean", None),
        ({"step": 1, "metrics": {}}, "kl_mean", None),
        ({"step": 1, "name": "kl", "value": 0.25}, "kl_mean", 0.25),
        ({"step": 1, "name": "kl", "value": math.inf}, "kl_mean", math.inf),
        ({"step": 1, "name": "kl", "value": 0.25}, "loss", None),
        ({"step": 1, "name": "kl", "value": "no number"}, "kl_mean", None),
        ({"step": 1, "learning_rate": 0.1}, "lr", 0.1),
        ({"step": 1, "learning_rate": 0.1}, "learning_rate", 0.1),
        ({"step": 1, "ppo": {"policy": {"kl_mean": 3.0}}}, "kl_mean", 3.0),
        ({"step": 1, "loss": True}, "loss", 1),
        ({"step": 1, "loss": [1]}, "loss", None),
        ({}, "loss", None),
    ],
)
def test_a_metric_of_a_record(record, metric, value):
    """Of an event, a line of the long format, or a trainer's own log; None where it was not measured."""
    found = TRLAdapter("x")._extract_trl_metric(record, metric)
    assert repr(found) == repr(value)


def test_a_record_may_be_of_any_depth():
    """A hostile one costs nothing."""
    deep = json.loads("{" + '"a":{' * 200 + "}" * 201)
    assert TRLAdapter("x")._extract_trl_metric(deep, "loss") is None
