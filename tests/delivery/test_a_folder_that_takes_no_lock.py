"""Where nothing can be written beside a journal, its delivery says so at once and tries no more."""

from __future__ import annotations

import errno

from rldk.cursor import CursorFile
from rldk.delivery import Delivery, finish_all
from rldk.journal import Journal
from rldk.settings import Settings
from rldk.testing import MemorySink


def test_it_ends_with_the_remedy(tmp_path, make_event, monkeypatch):
    """Of a folder of somebody else's, which the tests, run by root, could write."""
    path, run = tmp_path / "r_events.jsonl", make_event(time=1.0)
    with Journal(path) as journal:
        journal.append(run)

    def refused(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "r_memory.lock"))

    monkeypatch.setattr(CursorFile, "take", refused)
    sink = MemorySink()
    delivery = Delivery(path, sink, run=run, start=0, settings=Settings(retry_first_s=60.0))
    delivery.start()
    (report,) = finish_all([delivery], "FINISHED", [path], 5.0)
    (reason,) = report.reasons
    assert "Permission denied" in reason
    assert reason.endswith(f"make the folder of {path} writable, or copy the journal elsewhere")
    assert (report.is_closed, report.failures, sink.received) == (False, 0, [])
