"""A forked child, such as a data loader's worker, neither records nor holds what its parent records to."""

from __future__ import annotations

import os

import pytest

from rldk.errors import ForkedError
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def in_child(act):
    """Do something in a forked child, and give the code that it ends with."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_writes_nothing(tmp_path):
    """The journal is its parent's: the child is told so, and the parent goes on."""
    path = tmp_path / "r_events.jsonl"
    recorder = Recorder(Journal(path), Run(run_id="r", trainer="GRPO"), settings=Settings())
    recorder.begin(0, [])

    def record():
        try:
            recorder.log(1, {"loss": 1.0})
        except ForkedError:
            return 7
        return 0

    assert in_child(record) == 7
    recorder.log(1, {"loss": 0.5})
    recorder.end("FINISHED", 1)
    assert path.read_text().count('"metrics":{"loss"') == 1


def test_a_child_that_outlives_its_parent_holds_no_lock(tmp_path):
    """The training can be resumed while an orphan of the killed one still runs."""
    path = tmp_path / "r_events.jsonl"
    journal = Journal(path)
    gate, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(gate, 1)
        os._exit(0)
    journal._file.close()  # as the parent's death would
    Journal(path).close()
    os.write(release, b"x")
    os.waitpid(pid, 0)
