"""No file, however it was made, makes the reader fail, hang or give something that was not written."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rldk_wandb import blocks
from rldk_wandb.bulk import objects
from rldk_wandb.items import read_row
from rldk_wandb.offline import WandbFile
from rldk_wandb.wire import UNDECODABLE

HEAD = b":W&B\xe1\xbe\x00"


def chunk(payload, kind=1):
    """A chunk with the right checksum."""
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + payload), len(payload), kind) + payload


def field(number, payload):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    """A protobuf varint."""
    head = bytes([value & 0x7F | 0x80 * (value > 0x7F)])
    return head + varint(value >> 7) if value > 0x7F else head


def history(*items):
    """A record with one row."""
    return field(2, b"".join(field(1, item) for item in items))


def flat(value, key=b"k"):
    """An item as W&B writes it."""
    return field(2, key) + field(16, value)


@pytest.fixture
def read(tmp_path):
    """Read a file of these records: its rows, and its damage."""

    def read(*records, raw=b""):
        path = tmp_path / "run-x.wandb"
        path.write_bytes(HEAD + b"".join(map(chunk, records)) + raw)
        file = WandbFile(path)
        return list(file.rows()), file.damage

    return read


GOOD = history(flat(b"1"))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"\xff" * 50, id="endless varint"),
        pytest.param(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="length beyond the record"),
        pytest.param(b"\x12", id="no length"),
        pytest.param(b"\x13\x14", id="group"),
        pytest.param(b"\x17", id="wire type 7"),
        pytest.param(b"\x11\x00\x00", id="half a double"),
        pytest.param(field(2, b"\x0a\x05\x12"), id="half a field"),
        pytest.param(history(b"\x12"), id="a name without length"),
        pytest.param(history(b"\x12\x01k\x82\x01"), id="a value without length"),
        pytest.param(history(flat(b"1", key=b"\xff")), id="no UTF-8"),
        pytest.param(history(flat(b"1.2.3")), id="no number"),
        pytest.param(history(flat(b"nan")), id="no JSON"),
        pytest.param(history(flat(b"9" * 5000)), id="too many digits"),
        pytest.param(history(flat(b"[" * 30_000)), id="deep JSON"),
        pytest.param(history(flat(b"[" * 15_000 + b"]" * 15_000)), id="deep JSON that ends"),
        pytest.param(history(field(2, b"k") * 5000 + field(16, b"1")), id="deep key"),
        pytest.param(history(flat(b'{"a":')), id="half of JSON"),
        pytest.param(history(field(2, b"k") + b"\x31\x00"), id="half a typed number"),
        pytest.param(history(field(2, b"k") + field(8, b"[" * 30_000)), id="deep typed JSON"),
    ],
)
def test_a_record_that_is_no_message(read, bad):
    """A record that cannot be decoded is counted, and costs no other."""
    rows, damage = read(GOOD, bad, GOOD)
    assert rows == [{"k": 1}, {"k": 1}]
    assert damage.undecodable == 1


def test_config_that_is_no_config(tmp_path):
    """Config that nobody would write, as a key below a number or the removal of nothing, does no harm."""
    updates = [
        field(1, field(2, b"a") + field(16, b"1")),
        field(1, field(2, b"a") + field(2, b"b") + field(16, b"2")),
        field(2, field(2, b"a") + field(2, b"b") + field(2, b"c")),
        field(2, field(2, b"no") + field(2, b"no")),
        field(1, b""),
    ]
    path = tmp_path / "run-x.wandb"
    path.write_bytes(HEAD + b"".join(chunk(field(5, update)) for update in updates))
    assert WandbFile(path).run().config == {"a": {"b": 2}, "": None}


def test_values_beyond_json(read):
    """NaN and the infinities are numbers when they are bare and text when they are quoted."""
    rows, _ = read(*(history(flat(text)) for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"NaN"')))
    assert repr([row["k"] for row in rows]) == "[nan, inf, -inf, inf, 'NaN']"


@pytest.mark.parametrize("pieces", [[2], [2, 3], [3], [4], [3, 4], [2, 1], [2, 2]])
def test_pieces_without_the_rest(read, pieces):
    """Pieces of records do not join with what is not theirs."""
    joined, damage = read(raw=b"".join(chunk(GOOD, kind) for kind in pieces) + chunk(GOOD))
    assert joined == [{"k": 1}] * (1 + pieces.count(1))
    assert damage.pieces


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=5), st.binary(max_size=200))
def test_anything(read, records, noise):
    """Any bytes, with right checksums and without, are read to the end."""
    read(*records, raw=noise)


@pytest.mark.parametrize("block", [b"\x01", b"\0\x40\x01", struct.pack("<IHB", 0, 16000, 1), b"\0"])
def test_search_is_bounded(read, monkeypatch, block):
    """Where everything looks like the beginning of a chunk, no more than some bytes are summed per byte."""
    summed = []
    counting = SimpleNamespace(crc32=lambda data: summed.append(len(data)) or zlib.crc32(data))
    monkeypatch.setattr(blocks, "zlib", counting)
    rows, damage = read(raw=(block * 32768)[: 3 * 32768])
    assert rows == []
    assert damage.seen or damage.torn
    assert sum(summed) < 300 * 3 * 32768


def test_half_of_a_record_without_its_number(read):
    """Where a record lost the half with its number, the next number tells, and nothing is counted twice."""
    numbered = [varint(8) + varint(number) + GOOD for number in (1, 2, 5)]
    first, second, later = map(chunk, numbered)
    rows, damage = read(raw=first + second + chunk(b"", 2) + chunk(GOOD, 4) + later)
    assert len(rows) == 3
    assert damage.missing == 2


VALUES = st.sampled_from(
    [b"1", b"0.5", b"-1e-3", b"NaN", b"-Infinity", b"1e999", b"null", b"true", b'"x"', b"[1]"]
)
HOSTILE_VALUES = st.sampled_from(
    [b"", b"1,2", b"[1", b"2]", b"1}", b"1},{", b'1,"a":2', b"}", b"\x82\x01", b"\n"]
)
KEYS = st.text('abc/._"\\{}:,\n\x12\x01\u0082 ünN', max_size=9).map(str.encode) | st.sampled_from(
    [b"_step", b"k" * 200, b"\xff", b"\x82\x01", b"a\x82\x01\x011\n\x06\x12\x01b", b'a":1,"b']
)
ITEMS = st.builds(flat, VALUES | HOSTILE_VALUES, KEYS) | st.builds(flat, VALUES, KEYS) | st.binary(max_size=9)
STEPS = st.sampled_from(
    [b"", b"\x12\x00", b"\x12", b"\x12\x01\x08", b"\x12\x02\x08\x82", b"\x0a"]
) | st.integers(0, 2**40).map(lambda step: field(2, b"\x08" + varint(step)))


def one_by_one(message):
    """What reading a row by itself gives."""
    row = {}
    try:
        read_row(message, row)
    except UNDECODABLE:
        return None
    return row


@settings(max_examples=400)
@given(st.lists(st.tuples(st.lists(ITEMS, max_size=4), STEPS), max_size=5))
def test_rows_read_together(rows):
    """Of rows that are read in one batch, each is what it is by itself, or is left to be read so."""
    messages = [b"".join(field(1, item) for item in items) + step for items, step in rows]
    for message, read in zip(messages, objects(messages, steps=True), strict=True):
        alone = one_by_one(message)
        assert read is None or (alone | read == alone and alone.keys() - read.keys() <= {"_step"})


@pytest.mark.parametrize("step", [0, 1, 127, 128, 130, 16383, 16640, 2**21 - 1, 2**21, 2**40])
def test_usual_rows_are_read_together(step):
    """What wandb writes of most rows needs no second look, whatever the step."""
    message = (
        field(1, flat(b"0.5", b"train/loss"))
        + field(1, flat(b"1", b"_step"))
        + field(2, b"\x08" + varint(step))
    )
    if step not in {130, 16640} and step < 2**21:  # which look like the tag of a value, or are long
        assert objects([message], steps=True) == [{"train/loss": 0.5, "_step": 1}]


def test_changes_of_the_summary_that_no_row_says(tmp_path):
    """Whether a change of the summary is that of a row or somebody's own, the last one counts."""

    def change(*items, removed=()):
        return field(
            3, b"".join([*(field(1, item) for item in items), *(field(2, item) for item in removed)])
        )

    a, b = flat(b"1", b"a"), flat(b"2", b"b")
    records = [
        change(a, b),
        history(b, a),
        change(flat(b"7", b"a"), flat(b"8", b"best")),
        change(flat(b"3", b"a")),
        history(flat(b"3", b"a")),
        change(flat(b"9", b"b"), removed=[field(2, b"gone")]),
        history(flat(b"4", b"c")),
    ]
    path = tmp_path / "run-x.wandb"
    path.write_bytes(HEAD + b"".join(map(chunk, records)))
    assert WandbFile(path).run().summary == {"a": 3, "b": 9, "best": 8}


def test_a_row_that_says_more_than_the_summary(tmp_path):
    """What is in a row and not in the change before it, as where `define_metric` says so, stays out."""
    items = flat(b"1", b"a"), flat(b"2", b"hidden")
    path = tmp_path / "run-x.wandb"
    path.write_bytes(HEAD + chunk(field(3, field(1, items[0]))) + chunk(history(*items)))
    assert WandbFile(path).run().summary == {"a": 1}


def test_a_record_that_is_two(read):
    """Of two rows in one record the last counts, as it does for protobuf."""
    assert read(GOOD + history(flat(b"2")))[0] == [{"k": 2}]


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path):
    """What was whole at first and is not any more is counted, and stops nothing."""
    path = tmp_path / "run-x.wandb"
    path.write_bytes(HEAD + chunk(GOOD) * 3)
    file = WandbFile(path)
    found = file.survey(None)
    path.write_bytes(HEAD + chunk(GOOD) * 2 + chunk(GOOD)[:-1])
    assert list(file.rows_at(found.without_key, found.summary)) == [{"k": 1}] * 2
    assert file.damage.undecodable == 1


def test_changes_of_the_summary_are_many(tmp_path):
    """Changes that no row says are kept once for each set of names, and none is lost."""
    many = [field(3, field(1, flat(b"%d" % i, b"k%d" % (i % 7)))) for i in range(3000)]
    path = tmp_path / "run-x.wandb"
    path.write_bytes(HEAD + b"".join(chunk(record) for record in many for record in (record, GOOD)))
    assert WandbFile(path).run().summary == {f"k{i % 7}": i for i in range(2993, 3000)}
