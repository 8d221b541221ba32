"""An event survives its JSON line unchanged, and a line that is no event is told as such."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.errors import EventFormatError
from rldk.event import Event, decode, encode

NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.integers() | st.floats()
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
JSON = st.recursive(LEAVES, st.lists, max_leaves=5)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(["run", "metrics", "resource", "checkpoint", "alert", "end"]),
    seq=st.integers(0, 2**53),
    time=st.floats(0, 1e11),
    step=st.integers(0, 2**53),
    wall_time=st.floats(0, 1e9),
    metrics=st.dictionaries(NAMES, NUMBERS),
    rng=st.dictionaries(NAMES, JSON),
    data_slice=st.dictionaries(NAMES, JSON),
    model_info=st.dictionaries(NAMES, JSON),
    notes=st.lists(st.text()),
)


@given(EVENTS)
def test_reading_back_gives_the_same_event(event):
    """decode(encode(event)) is the event, NaN and the infinities and big integers included."""
    back = decode(encode(event))
    assert repr(back) == repr(event)


@given(EVENTS)
def test_a_line_is_strict_json(event):
    """Any JSON parser can read a line: it holds no bare NaN or Infinity, and no newline."""

    def refuse(constant):
        pytest.fail(f"bare {constant}")

    line = encode(event)
    assert b"\n" not in line
    assert set(json.loads(line, parse_constant=refuse)) == set(Event.__struct_fields__)


def test_every_line_has_the_seven_public_fields(make_event):
    """The public schema is in every line, also where a field is empty."""
    fields = {"step", "wall_time", "metrics", "rng", "data_slice", "model_info", "notes"}
    assert fields <= set(json.loads(encode(make_event())))


def test_a_line_of_the_seven_fields_alone_is_an_event():
    """What the public schema shows can be read without the envelope."""
    fields = ("rng", "data_slice", "model_info")
    event = {"step": 1, "wall_time": 2, "metrics": {"loss": "NaN"}, "notes": []} | {key: {} for key in fields}
    line = json.dumps(event).encode()
    back = decode(line)
    assert (back.kind, back.step) == ("metrics", 1)
    assert math.isnan(back.metrics["loss"])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"step":1',
        b"[" * 100_000,
        b'{"step":"1","wall_time":2,"metrics":{},"rng":{},"data_slice":{},"model_info":{},"notes":[]}',
        b'{"step":1,"wall_time":2,"metrics":{"loss":"nan"},"rng":{},"data_slice":{},"model_info":{},"notes":[]}',
        b'{"step":1,"wall_time":2,"metrics":{"loss":null},"rng":{},"data_slice":{},"model_info":{},"notes":[]}',
        b'{"step":1,"wall_time":2,"metrics":{"loss":NaN},"rng":{},"data_slice":{},"model_info":{},"notes":[]}',
    ],
)
def test_a_line_that_is_no_event_is_told_as_such(line):
    """Whatever is wrong with a line, the error is RLDK's own."""
    with pytest.raises(EventFormatError, match="not an RLDK event"):
        decode(line)


def test_a_newer_schema_is_refused_with_the_remedy(make_event):
    """A line of a later RLDK is not half understood."""
    line = encode(msgspec.structs.replace(make_event(), v=2))
    with pytest.raises(EventFormatError, match="upgrade rldk"):
        decode(line)


def test_what_json_cannot_hold_is_an_error_of_rldk(make_event):
    """An object in model_info does not raise from the depths."""
    with pytest.raises(EventFormatError):
        encode(make_event(model_info={"model": object()}))


def test_text_that_utf8_cannot_hold_costs_no_event(make_event):
    """A lone surrogate, as in a file name of raw bytes, becomes a question mark."""
    event = make_event(
        metrics={"\ud800x": 1.0, "loss": 2.0}, model_info={"output_dir": "/o\udcff"}, notes=["\ud800"]
    )
    back = decode(encode(event))
    assert back.metrics == {"?x": 1.0, "loss": 2.0}
    assert back.model_info == {"output_dir": "/o?"}


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1])
def test_a_step_beyond_64_bits_is_no_event(make_event, step):
    """No table could hold it."""
    with pytest.raises(EventFormatError):
        decode(encode(make_event(step=step)))
