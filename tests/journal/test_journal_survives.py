"""A journal keeps every whole line, whatever happened to the process that wrote it."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rldk import journal
from rldk.errors import JournalError
from rldk.event import encode
from rldk.journal import Journal


@pytest.fixture
def path(tmp_path):
    """Where the journal is."""
    return tmp_path / "folder" / "r_events.jsonl"


def write(path, events):
    """Write a journal in one go."""
    with Journal(path) as opened:
        for event in events:
            opened.append(event)


def events_of(path, offset=0):
    """Read the events of a journal."""
    return [entry.event for entry in journal.read(path, offset) if entry.event is not None]


def test_what_is_appended_is_read_back_in_order(path, make_event):
    """Appending and reading are inverse."""
    events = [make_event(seq=i, step=i) for i in range(5)]
    write(path, events)
    assert events_of(path) == events


def test_reading_goes_on_from_an_offset(path, make_event):
    """The end of any entry is where reading can start again."""
    events = [make_event(seq=i) for i in range(4)]
    write(path, events)
    ends = [entry.end for entry in journal.read(path)]
    assert [events_of(path, end) for end in ends] == [events[1:], events[2:], events[3:], []]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_cut_off_on_opening(path, make_event, cut):
    """Wherever the last line broke, the lines before it stay and the next one is whole."""
    write(path, [make_event(seq=0), make_event(seq=1)])
    whole = path.read_bytes()
    path.write_bytes(whole[: -cut - 1])
    with Journal(path) as opened:
        assert opened.last == make_event(seq=0)
        opened.append(make_event(seq=1))
    assert path.read_bytes() == whole


def test_a_last_line_without_its_newline_is_kept(path, make_event):
    """An editor that drops the last newline costs no event."""
    write(path, [make_event(seq=0), make_event(seq=1)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    Journal(path).close()
    assert path.read_bytes() == whole


def test_a_line_that_is_being_written_is_left_for_later(path, make_event):
    """A reader beside the writer never sees half a line."""
    write(path, [make_event(seq=0)])
    line = encode(make_event(seq=1))
    with path.open("ab") as file:
        file.write(line[:20])
    assert [e.seq for e in events_of(path)] == [0]
    with path.open("ab") as file:
        file.write(line[20:] + b"\n")
    assert [e.seq for e in events_of(path)] == [0, 1]


def test_a_foreign_line_is_an_entry_with_its_reason(path, make_event):
    """Garbage between the lines is told and costs none of them."""
    write(path, [make_event(seq=0)])
    with path.open("ab") as file:
        file.write(b"garbage\n\n\xff\xff\n" + encode(make_event(seq=1)) + b"\n")
    reasons = [entry.reason for entry in journal.read(path) if entry.event is None]
    assert [e.seq for e in events_of(path)] == [0, 1]
    assert len(reasons) == 2


def test_a_line_too_long_to_hold_is_skipped(path, make_event, monkeypatch):
    """Memory is bounded by one line of at most MAX_LINE_BYTES."""
    monkeypatch.setattr(journal, "MAX_LINE_BYTES", 1000)
    write(path, [make_event(seq=0)])
    with path.open("ab") as file:
        file.write(b"x" * 5500 + b"\n" + encode(make_event(seq=1)) + b"\n")
    assert [e.seq for e in events_of(path)] == [0, 1]
    assert [entry.reason for entry in journal.read(path) if entry.event is None] == ["longer than 0 MiB"]


def test_the_last_event_is_found_behind_much_garbage(path, make_event):
    """The sequence goes on from the last event even if a long tail holds none."""
    write(path, [make_event(seq=i, notes=["x" * 500]) for i in range(400)])
    with path.open("ab") as file:
        file.write((b"y" * 99 + b"\n") * 3000)
    last = journal.last_event(path)
    assert last is not None
    assert last.seq == 399


def test_a_journal_that_is_removed_while_open_is_put_back(path, make_event):
    """With the next event the file is there again, whole, and the folder too."""
    with Journal(path) as opened:
        opened.append(make_event(seq=0))
        shutil.rmtree(path.parent)
        opened.append(make_event(seq=1))
    assert [e.seq for e in events_of(path)] == [0, 1]


@pytest.mark.parametrize("foreign", [b"my notes", b'{"mine": 1', b"\x00\x01"])
def test_a_file_of_somebody_else_is_not_cut(path, foreign):
    """Only what RLDK began to write is taken for a torn line."""
    path.parent.mkdir()
    path.write_bytes(foreign)
    with pytest.raises(JournalError, match="move the file away"):
        Journal(path)
    assert path.read_bytes() == foreign


def test_a_second_writer_is_refused(path):
    """Two processes cannot mix their lines in one journal."""
    with Journal(path), pytest.raises(JournalError, match="another process"):
        Journal(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    """The error names the path and says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="choose a writable output_dir"):
        Journal(tmp_path / "file" / "r_events.jsonl")


def test_a_full_disk_costs_no_event_once_it_has_room_again(path, make_event, caplog):
    """Lines that do not fit are held, said once, and written in their order; the file is whole throughout."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as opened:
        opened.append(make_event(seq=0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (opened.end + 10, hard))
        try:
            opened.append(make_event(seq=1))
            opened.append(make_event(seq=2))
            assert [e.seq for e in events_of(path)] == [0]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        opened.append(make_event(seq=3))
    assert [e.seq for e in events_of(path)] == [0, 1, 2, 3]
    assert caplog.text.count("File too large") == 1


def test_what_a_full_disk_costs_in_the_end_is_counted(path, make_event):
    """A disk that stays full until the journal is closed loses what was held, and that is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    opened = Journal(path)
    opened.append(make_event(seq=0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (opened.end + 10, hard))
    try:
        opened.append(make_event(seq=1))
        with pytest.raises(JournalError, match="1 events are lost"):
            opened.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [e.seq for e in events_of(path)] == [0]


def test_a_killed_writer_loses_no_line(path):
    """SIGKILL in mid-run leaves a journal of whole lines, and the count goes on without a gap."""
    program = """
import sys
from pathlib import Path
from rldk.event import Event
from rldk.journal import Journal
journal = Journal(Path(sys.argv[1]))
for seq in range(10**6):
    journal.append(Event(seq=seq, step=seq, wall_time=0, metrics={"loss": 1/(seq+1)}, rng={}, data_slice={},
                         model_info={}, notes=[]))
"""
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as process:
        while not path.exists() or path.stat().st_size < 50_000:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    entries = list(journal.read(path))
    assert [entry.event.seq for entry in entries if entry.event] == list(range(len(entries)))


def test_the_last_event_is_found_behind_any_others(path, make_event):
    """Whatever the lengths of the lines are: each byte is read once."""
    sizes = [10, 70_000, 65_536, 3, 200_000, 65_535]
    events = [make_event(seq=i, notes=["x" * size]) for i, size in enumerate(sizes)]
    for count in range(1, len(events) + 1):
        path.unlink(missing_ok=True)
        write(path, events[:count])
        assert journal.last_event(path) == events[count - 1]
        with path.open("ab") as file:
            file.write(b"garbage\n\n" + b'{"v":1,"torn')
        assert journal.last_event(path) == events[count - 1]
