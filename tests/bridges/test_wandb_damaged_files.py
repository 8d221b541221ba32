"""Of a damaged file every record that is whole is read, and what is lost is said."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from hashlib import shake_128
from typing import NamedTuple

import pytest

from rldk_wandb.offline import WandbFile
from tests.bridges._wandb_runs import offline_in, protobuf_records, wandb_file

pytestmark = pytest.mark.real

HEAD, BLOCK = 7, 32768
PROGRAM = """
import wandb
run = wandb.init()
for i in range(300):
    run.log({"i": i, "text": "x" * (40_000 if i % 100 == 50 else i)})
run.finish()
"""


class Record(NamedTuple):
    """Where one record lies in the file, and the row that it holds, if it holds one."""

    begin: int
    end: int
    row: int | None


class Whole(NamedTuple):
    """A file without damage."""

    data: bytes
    records: list[Record]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A real file of many blocks, with rows that fill more than one."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | offline_in(folder), check=True)
    data = wandb_file(folder).read_bytes()
    rows = map(row_in, protobuf_records(wandb_file(folder)))
    return Whole(data, [Record(*span, row) for span, row in zip(spans(data), rows, strict=True)])


def spans(data):
    """Where each record of an undamaged file begins and ends."""
    pos = begin = HEAD
    while pos + HEAD <= len(data):
        if pos % BLOCK > BLOCK - HEAD:
            pos += BLOCK - pos % BLOCK
            continue
        kind = data[pos + 6]
        begin = begin if kind in {3, 4} else pos
        pos += HEAD + int.from_bytes(data[pos + 4 : pos + 6], "little")
        if kind in {1, 4}:
            yield begin, pos


def row_in(record):
    """The row that a protobuf record holds."""
    return next((int(i.value_json) for i in record.history.item if list(i.nested_key) == ["i"]), None)


@pytest.fixture
def read(tmp_path):
    """Read a file of these bytes: its rows, and its damage."""

    def read(data):
        path = tmp_path / "run-x.wandb"
        path.write_bytes(data)
        file = WandbFile(path)
        return [row["i"] for row in file.rows()], file.damage

    return read


def rows_of(records):
    """The rows that some records hold."""
    return [record.row for record in records if record.row is not None]


def test_no_damage(whole, read):
    """Of a whole file all is read, and nothing is said."""
    rows, damage = read(whole.data)
    assert (rows, damage.sentences()) == (list(range(300)), [])


def test_truncation(whole, read):
    """Of a file that was cut anywhere, all rows before the cut are read, and a torn record is told."""
    ends = {record.end for record in whole.records}
    for cut in [*range(HEAD, len(whole.data), 1000), *sorted(ends)[::50]]:
        rows, damage = read(whole.data[:cut])
        assert rows == rows_of(r for r in whole.records if r.end <= cut)
        assert damage.torn == (cut not in ends | {HEAD} and whole.data[cut - 1 : cut + 1] != b"\0\0")
        assert not damage.seen


@pytest.mark.parametrize("flips", [1, 30])
def test_bit_flips(whole, read, flips):
    """Bits that flip anywhere cost the records in which they lie, and no other."""
    chance = random.Random(flips)  # noqa: S311  # the same flips each time
    for _ in range(60):
        damaged = bytearray(whole.data)
        places = [chance.randrange(HEAD, len(damaged)) for _ in range(flips)]
        for place in places:
            damaged[place] ^= 1 << chance.randrange(8)
        lost = [r for r in whole.records if any(r.begin <= place < r.end for place in places)]
        rows, damage = read(bytes(damaged))
        assert rows == rows_of(r for r in whole.records if r not in lost)
        assert damage.missing == len(lost) - (whole.records[-1] in lost)
        assert bool(damage.sentences()) == bool(lost)


@pytest.mark.parametrize("noise", [bytes(BLOCK), b"\xff" * BLOCK, shake_128().digest(BLOCK)])
def test_a_block_is_overwritten(whole, read, noise):
    """A block of zeros or noise costs the records that reach into it, and no other."""
    for begin in range(BLOCK, len(whole.data) - BLOCK, BLOCK):
        kept = [r for r in whole.records if r.end <= begin or r.begin >= begin + BLOCK]
        rows, damage = read(whole.data[:begin] + noise + whole.data[begin + BLOCK :])
        assert rows == rows_of(kept)
        assert damage.missing == len(whole.records) - len(kept)
        assert damage.places


def test_a_block_is_cut_out(whole, read):
    """Where a block is gone, with all checksums right, no row is made of the halves of two others."""
    for begin in range(BLOCK, len(whole.data) - BLOCK, BLOCK):
        kept = [r for r in whole.records if r.end <= begin or r.begin >= begin + BLOCK]
        rows, damage = read(whole.data[:begin] + whole.data[begin + BLOCK :])
        assert rows == rows_of(kept)
        assert damage.missing == len(whole.records) - len(kept)


def test_zeros_at_the_end(whole, read):
    """Zeros after the last record cost no row."""
    rows, damage = read(whole.data + bytes(3 * BLOCK))
    assert rows == list(range(300))
    assert damage.missing == 0
