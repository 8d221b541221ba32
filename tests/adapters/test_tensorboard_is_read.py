"""TensorBoard's scalars come back as its own writers wrote them, and as its own reader reads them."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto
from torch.utils.tensorboard import SummaryWriter

from rldk.adapters.tensorboard import TensorBoardAdapter
from rldk.errors import SourceError

AT = 1763847600.0


def written(folder, *logs):
    """An event file by torch's writer: tag, number and step of each scalar; its path."""
    with SummaryWriter(str(folder)) as writer:
        for n, (tag, value, step) in enumerate(logs):
            writer.add_scalar(tag, value, step, walltime=AT + n)
    return max(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)


def points(events):
    """Step, tag and number of each scalar."""
    return [(e.step, tag, value) for e in events for tag, value in e.metrics.items()]


def test_scalars_of_one_step_are_one_event(tmp_path, told):
    """At the time of the first; what repeats is another event."""
    written(tmp_path / "r", ("a", 1, 1), ("b", math.nan, 1), ("a", 2, 1), ("a", 0.5, -3))
    adapter = TensorBoardAdapter(str(tmp_path / "r"))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert repr(told(events)) == "[(1, {'a': 1.0, 'b': nan}), (1, {'a': 2.0}), (-3, {'a': 0.5})]"
    assert [event.time - AT for event in events[1:]] == [0, 2, 3]
    assert (events[0].run_id, adapter.problems) == ("r", [])


def test_every_way_of_writing_a_scalar_is_read(tmp_path):
    """As a simple value, and as tensors of both precisions; what is no scalar is counted."""
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("old", 2.5, 1)
        writer.add_scalar("new", 2.5, 1, new_style=True)
        writer.add_scalar("double", 0.1, 1, new_style=True, double_precision=True)
        writer.add_histogram("histogram", __import__("numpy").arange(9), 1)
        writer.add_text("args", "{}", 1)
    adapter = TensorBoardAdapter(str(tmp_path))
    assert points(adapter.events()) == [(1, "old", 2.5), (1, "new", 2.5), (1, "double", 0.1)]
    assert "2 summaries are no scalars" in adapter.problems[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=9),
            st.floats(width=32) | st.floats().map(lambda x: make_tensor_proto(x, dtype="float64"))
            | st.integers(-(2**63), 2**63 - 1).map(lambda n: make_tensor_proto(n, dtype="int64")),
            st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_any_scalar_is_read_as_protobuf_reads_it(tmp_path, logs):
    """Whatever its tag, step, type and value."""
    shutil.rmtree(tmp_path / "law", ignore_errors=True)
    writer = EventFileWriter(str(tmp_path / "law"))
    expected = []
    for tag, value, step in logs:
        is_tensor = isinstance(value, TensorProto)
        told = {"tensor": value} if is_tensor else {"simple_value": value}
        writer.add_event(TensorBoardEvent(step=step, summary=Summary(value=[Summary.Value(tag=tag, **told)])))
        plain = (*value.double_val, *value.int64_val)[0] if is_tensor else value
        expected.append((step, tag, plain))
    writer.close()
    assert repr(points(TensorBoardAdapter(str(tmp_path / "law")).events())) == repr(expected)


def test_restarts_in_one_folder_are_one_run(tmp_path, told):
    """In the order in which they began, which their names tell."""
    first = written(tmp_path / "x", ("a", 1, 1))
    second = written(tmp_path / "y", ("a", 2, 2))
    run = tmp_path / "out" / "runs" / "Nov22_host"
    run.mkdir(parents=True)
    shutil.copy(second, run / "events.out.tfevents.1763847700.host.1.0")
    shutil.copy(first, run / "events.out.tfevents.1763847600.host.2.0")
    for source in (run, run.parent, tmp_path / "out"):
        events = list(TensorBoardAdapter(str(source)).events())
        assert told(events) == [(1, {"a": 1.0}), (2, {"a": 2.0})]
        assert {event.run_id for event in events} == {"Nov22_host"}


def test_each_folder_is_a_run(tmp_path):
    """`train` and `eval` are called with the folder that they are in."""
    for name in ("a/train", "a/eval", "b"):
        written(tmp_path / name, ("loss", 1, 1))
    adapter = TensorBoardAdapter(str(tmp_path))
    assert {event.run_id for event in adapter.events()} == {"a/train", "a/eval", "b"}
    assert sorted(Path(run).name for run in adapter.runs()) == ["b", "eval", "train"]
    alone = TensorBoardAdapter(str(tmp_path / "a" / "train"))
    assert {event.run_id for event in alone.events()} == {"a/train"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of 300 scalars, and what is in it."""
    path = written(tmp_path_factory.mktemp("whole"), *(("loss", n, n) for n in range(300)))
    return path, points(TensorBoardAdapter(str(path)).events())


def test_it_is_read_as_tensorboard_reads_it(whole):
    """By its own loader."""
    path, found = whole
    values = [(e.step, v.tag, v.tensor) for e in EventFileLoader(str(path)).Load() for v in e.summary.value]
    assert found == [(step, tag, tensor.float_val[0]) for step, tag, tensor in values]


def test_a_torn_file_gives_every_whole_record(whole, tmp_path):
    """Wherever it is cut; that it ends inside a record is told."""
    path, found = whole
    data = path.read_bytes()
    torn = tmp_path / "events.out.tfevents.1.x"
    for end in range(80, len(data), 23):
        torn.write_bytes(data[:end])
        adapter = TensorBoardAdapter(str(torn))
        try:
            read = points(adapter.events())
        except SourceError:
            read = []
        assert read == found[: len(read)]
        assert len(read) >= (end - 120) // 50  # a record takes less


def test_damaged_records_are_counted_and_the_others_read(whole, tmp_path):
    """A flipped byte costs one record, in its length or in its data."""
    path, found = whole
    data = bytearray(path.read_bytes())
    noise = random.Random(1)  # noqa: S311  # any bytes will do
    torn = tmp_path / "events.out.tfevents.1.x"
    for _ in range(100):
        place, flip = noise.randrange(60, len(data)), noise.randrange(1, 256)
        data[place] ^= flip
        torn.write_bytes(data)
        adapter = TensorBoardAdapter(str(torn))
        read = points(adapter.events())
        data[place] ^= flip
        assert set(read) <= set(found)
        assert len(read) >= len(found) - 1
        assert len(read) == len(found) or adapter.problems


def test_garbage_behind_a_good_head_ends(whole, tmp_path):
    """The search for another record gives up in time."""
    path, found = whole
    bad = tmp_path / "events.out.tfevents.1.x"
    bad.write_bytes(path.read_bytes() + bytes(20_000_000))
    adapter = TensorBoardAdapter(str(bad))
    assert points(adapter.events()) == found
    assert adapter.problems
