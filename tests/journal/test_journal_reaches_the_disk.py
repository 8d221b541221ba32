"""The user says when a line must be on the disk itself."""

from __future__ import annotations

import os
import threading

import pytest

from rldk.journal import Journal


@pytest.fixture
def synced(monkeypatch):
    """Counts the calls of fsync; the event is set at each."""
    calls = []
    called = threading.Event()
    real = os.fsync

    def counting(fd):
        calls.append(threading.current_thread().name)
        called.set()
        return real(fd)

    monkeypatch.setattr(os, "fsync", counting)
    return calls, called


def test_always_is_with_each_line(tmp_path, make_event, synced):
    """No line is left to the operating system."""
    calls, _ = synced
    with Journal(tmp_path / "r_events.jsonl", fsync="always") as journal:
        for seq in range(3):
            journal.append(make_event(seq=seq))
        assert len(calls) == 3


def test_interval_is_in_the_background(tmp_path, make_event, synced):
    """The thread that appends never waits for the disk."""
    calls, called = synced
    with Journal(tmp_path / "r_events.jsonl", fsync="interval", fsync_interval_s=0.01) as journal:
        journal.append(make_event(seq=0))
        assert called.wait(10)
        assert set(calls) == {"rldk-fsync"}


def test_an_idle_journal_is_left_alone(tmp_path, make_event, synced):
    """Once all is on the disk there is nothing to do until the next line."""
    calls, called = synced
    with Journal(tmp_path / "r_events.jsonl", fsync="interval", fsync_interval_s=0.01) as journal:
        journal.append(make_event(seq=0))
        assert called.wait(10)
        called.clear()
        assert not called.wait(0.2)
        journal.append(make_event(seq=1))
        assert called.wait(10)
        assert len(calls) == 2


def test_never_leaves_it_to_the_system_until_the_end(tmp_path, make_event, synced):
    """Closing still sees to it."""
    calls, _ = synced
    journal = Journal(tmp_path / "r_events.jsonl", fsync="never")
    journal.append(make_event(seq=0))
    assert calls == []
    journal.close()
    assert len(calls) == 1
