"""Each kind of source is recognised by its content, by the right adapter, and by none that is not."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk import event as event_json
from rldk.adapters.metrics_table import MetricsTableAdapter
from rldk.errors import RLDKError
from rldk.schema import DTYPES
from tests.adapters._sources import IN_ORDER, SOURCES


def first(source):
    """The adapter that is asked first of those that recognise a source."""
    return next((cls for cls in IN_ORDER if cls(str(source)).can_handle()), None)


@pytest.mark.parametrize(("make", "adapter"), SOURCES)
def test_a_source_is_recognised(tmp_path, make, adapter):
    """By the first adapter that is asked and says so."""
    assert first(make(tmp_path)) is adapter


@pytest.mark.parametrize(("make", "adapter"), SOURCES)
def test_what_every_adapter_promises_holds(tmp_path, make, adapter):
    """A run begins with its event, times only grow, others' are raw, and each reading gives the same."""
    source = str(make(tmp_path))
    reader = adapter(source)
    events = list(reader.events())
    again = adapter(source)
    assert repr(list(again.events())) == repr(events)
    assert again.problems == reader.problems
    assert repr(list(reader.events())) == repr(events)
    for run_id in {event.run_id for event in events}:
        run = [event for event in events if event.run_id == run_id]
        assert run[0].kind == "run"
        assert sum(event.kind == "run" for event in run) == len({event.segment for event in run})
        times = [round(event.time * 1000) for event in run]
        assert times == sorted(set(times))
        assert all(event.time == round(event.time, 3) for event in run)
        assert {event.is_raw for event in run} == {adapter is not MetricsTableAdapter}
        assert run_id
    for event in events:
        assert repr(event_json.decode(event_json.encode(event))) == repr(event)
    assert reader.runs()
    assert all(path.exists() for path in reader.files(tmp_path))


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"step", b"{}", b"[]", b"a,b\n1,2\n", b"\x1f\x8b", b"PAR", b"hello world\n", b"null"]
)
def test_what_is_nothing_is_not_recognised(tmp_path, text):
    """Nor is a folder of it."""
    (tmp_path / "x").write_bytes(text)
    assert first(tmp_path / "x") is None
    assert first(tmp_path) is None


@pytest.mark.parametrize(
    "source", ["", "\0", "missing", "x" * 5000, "wandb://a/b/c", "runs:/abc", "https://x/#runs/y"]
)
def test_what_is_no_path_is_not_recognised(source):
    """And never raises."""
    assert not any(cls(source).can_handle() for cls in IN_ORDER[1:])


def test_a_pipe_is_not_opened(tmp_path):
    """To open it would wait for ever."""
    os.mkfifo(tmp_path / "log.jsonl")
    assert first(tmp_path / "log.jsonl") is None


OWN = ",".join(DTYPES).encode() + b"\n"
HEADS = st.sampled_from(
    [
        b"",
        b"{",
        b'{"step": 1, "a"',
        b"step,loss\n",
        b"\x1f\x8b\x08",
        b"PAR1",
        OWN + b"\n",
        b"\x28\xb5\x2f\xfd",
        b"[",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(head=HEADS, tail=st.binary(max_size=200))
def test_no_bytes_make_an_adapter_raise(tmp_path, head, tail):
    """`can_handle` answers, and reading gives events or RLDK's own error."""
    path = tmp_path / "x"
    path.write_bytes(head + tail)
    for cls in IN_ORDER:
        assert cls(str(path)).can_handle() in {True, False}
        with suppress(RLDKError):
            list(cls(str(path)).events())
