"""Whatever is killed, once the run has been gone on with no row is missing and none is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import wandb

from rldk.bridge import Receipt
from rldk.errors import SinkClosedError, SinkLostError
from rldk_wandb import fragments
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    event,
    forget_wandb,
    go_on,
    kill_core,
    plain,
    read_back,
    wandb_offline,  # noqa: F401  # for each test that is offline
)

pytestmark = pytest.mark.real

EVENTS = [event(i, step=i, metrics={"loss": i / 7, "kl_mean": -i}) for i in range(1, 1501)]
SENT = 1200

KILLED = f"""
import os, signal, sys
import wandb
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges.test_wandb_rows_survive_a_kill import EVENTS, RUN
sink = WandbSink.create()
print(sink.open(RUN).source, flush=True)
sink.settle(None)
sink.send(EVENTS[:{SENT}])
core = wandb.setup().ensure_service()._proc._process
if sys.argv[1] == "group":
    core.kill()
if sys.argv[1] == "slow core":
    os.kill(core.pid, signal.SIGSTOP)
    sink.send(EVENTS[{SENT}:{SENT} + 100])
    print(core.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def project(wandb_offline, monkeypatch):  # noqa: F811  # it must come first; it is imported
    """One project for all processes: W&B would name it for the program that each of them runs."""
    monkeypatch.setenv("WANDB_PROJECT", "garden")


def killed(what):
    """Send most events from a process that is killed right after, alone or with its wandb-core."""
    return receipt_of(run_until_killed(what)[0])


def run_until_killed(what):
    """What the process has printed before."""
    command = [sys.executable, "-c", KILLED, what]
    # Not to a pipe: a wandb-core that lives on would hold it open.
    with tempfile.TemporaryFile("w+") as out:
        done = subprocess.run(command, stdout=out, check=False)
        out.seek(0)
        assert done.returncode == -9
        return out.read().splitlines()


def receipt_of(source):
    """What a delivery would have noted."""
    return Receipt(source=source, at=EVENTS[SENT - 1].time, base=0.0)


def measured(events):
    """The numbers of some events, without those that begin a segment."""
    return [plain(event) for event in events if event.kind == "metrics"]


@pytest.mark.parametrize("what", ["python", "group"])
def test_offline(tmp_path, what):
    """Gone on with at once: a wandb-core that has outlived its python is waited for."""
    receipt = killed(what)
    go_on(RUN, EVENTS, receipt)
    forget_wandb()
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-rosy-run.wandb"))) == 2
    adapter_events = read_all(receipt.source)
    assert measured(adapter_events) == measured(EVENTS)


def read_all(source):
    """All events of a run that was killed, whose problems are known."""
    from rldk_wandb.adapter import WandbAdapter

    return [e for e in WandbAdapter(source).events() if not e.is_raw]


@pytest.mark.parametrize("is_online", [False, True])
def test_a_core_that_lives_on(request, is_online):
    """A wandb-core that still holds rows when its python is dead writes none after we have looked."""
    backend = request.getfixturevalue("wandb_backend") if is_online else None
    source, core = run_until_killed("slow core")
    waking = threading.Timer(2.0, os.kill, (int(core), signal.SIGCONT))
    waking.start()
    home = go_on(RUN, EVENTS, receipt_of(source))
    waking.join()
    forget_wandb()
    times = [row["_timestamp"] for row in backend.rows("rosy-run")] if backend else times_in(home.source)
    assert times == [e.time for e in EVENTS]


def times_in(source):
    """When each row of a run was logged, in the order of its files."""
    files = fragments.beside(next(iter(Path(source).glob("*.wandb"))))
    return [row["_timestamp"] for file in files for row in WandbFile(file).rows()]


def test_some_rows_are_lost_in_a_kill():
    """The quirk that all this is for; when this fails, wandb-core writes before it accepts."""
    assert len(measured(read_all(killed("group").source))) < SENT


@pytest.mark.parametrize("what", ["python", "group"])
def test_online(wandb_backend, what):
    """The server has each row once, and W&B's own steps go on."""
    receipt = killed(what)
    assert len(wandb_backend.rows("rosy-run")) < SENT
    go_on(RUN, EVENTS, receipt)
    forget_wandb()
    rows = wandb_backend.rows("rosy-run")
    assert [row["rldk/seq"] for row in rows] == [e.seq for e in EVENTS]
    assert [row["_step"] for row in rows] == list(range(len(EVENTS)))


def test_online_after_rows_have_arrived(wandb_backend):
    """Rows that the server has are not sent again, also where the run is taken up by another machine."""
    go_on(RUN, EVENTS[:SENT])
    forget_wandb()
    go_on(RUN, EVENTS, Receipt(source="wandb://rldk-test/p/rosy-run", at=EVENTS[9].time, base=0.0))
    forget_wandb()
    assert [row["rldk/seq"] for row in wandb_backend.rows("rosy-run")] == [e.seq for e in EVENTS]


def test_a_writer_is_waited_for(tmp_path, monkeypatch):
    """While a process writes to a fragment it is not judged; a writer that stays is waited for in vain."""
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b":W&B\xe1\xbe\x00")
    monkeypatch.setattr(fragments, "_open_files", lambda: {str(path)} if time.monotonic() < end else set())
    end = time.monotonic() + 0.3
    fragments.await_writers([path])
    assert time.monotonic() >= end
    monkeypatch.setattr(fragments, "_open_files", lambda: {str(path)})
    monkeypatch.setattr(fragments, "_FAREWELL_S", 0.1)
    fragments.await_writers([path])


def test_open_files_are_seen():
    """A fragment that a wandb-core writes to is known as one."""
    sink = WandbSink.create()
    sink.open(RUN)
    assert str(sink._run.settings.sync_file) in fragments._open_files()
    sink.close("FINISHED", [])
    forget_wandb()
    assert not fragments._open_files() & {path for path in fragments._open_files() if "rosy-run" in path}


def test_our_own_run_is_opened_anew():
    """When wandb-core is killed under a run of our own, the same sink opens it again and goes on."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.send(EVENTS[:SENT])
    kill_core()
    with pytest.raises(SinkLostError, match="rosy-run is opened anew"):
        sink.send(EVENTS[SENT:])
    again = sink.open(RUN)
    assert (again.run_id, again.source != home.source) == ("rosy-run", True)
    held = sink.settle(Receipt(source=home.source, at=EVENTS[SENT - 1].time, base=0.0))
    assert held < EVENTS[SENT - 1].time
    sink.send([e for e in EVENTS if e.time > held])
    sink.close("FINISHED", [])
    assert measured(read_all(home.source)) == measured(EVENTS)


def test_a_core_that_dies_before_the_end_is_noticed():
    """When wandb-core is killed before the run is closed, that is no success either."""
    sink = WandbSink.create()
    sink.open(RUN)
    kill_core()
    with pytest.raises(SinkLostError):
        sink.close("FINISHED", [])
    assert sink.open(RUN).run_id == "rosy-run"
    sink.close("FINISHED", [])


def test_somebody_elses_run_is_over():
    """A run that the script has opened is gone with its wandb-core, and the error says why."""
    wandb.init(id="theirs")
    sink = WandbSink.attach()
    sink.open(RUN)
    kill_core()
    for _ in range(2):
        with pytest.raises(SinkClosedError, match=r"wandb-core has died.*theirs.*in the journal"):
            sink.send(EVENTS)


def test_what_the_receipt_says_is_weighed(tmp_path):
    """The disk is believed where it can tell, the receipt where its folder is gone, else its base."""
    home = go_on(RUN, EVENTS[:10])
    at, base = EVENTS[19].time, EVENTS[4].time
    gone = Receipt(source=str(tmp_path / "wandb" / "offline-run-gone"), at=at, base=base)
    empty = go_on(RUN, []).source
    sink = WandbSink.create()
    sink.open(RUN)
    believed = {
        EVENTS[9].time: [None, Receipt(source=home.source, at=at, base=base)],
        at: [gone],
        EVENTS[11].time: [Receipt(source=empty, at=at, base=EVENTS[11].time)],
    }
    for time_, receipts in believed.items():
        assert [sink.settle(receipt) for receipt in receipts] == [time_] * len(receipts)
    sink.close("FINISHED", [])


def test_nothing_is_held_by_a_new_run(wandb_backend):
    """A run that nobody has written to holds nothing, and the server is not asked for its history."""
    sink = WandbSink.create()
    sink.open(RUN)
    assert sink.settle(None) == 0.0
    assert "RunHistoryKeys" not in wandb_backend.operations
    sink.close("FINISHED", [])


def test_a_second_recorder_in_one_run():
    """What this process has handed to a wandb-core that lives is held, though it is on no disk yet."""
    theirs = wandb.init(id="theirs")
    for part in (EVENTS[:5], EVENTS[5:9]):
        sink = WandbSink.attach()
        home = sink.open(RUN)
        held = sink.settle(None)
        assert held == (0.0 if part[0] is EVENTS[0] else EVENTS[4].time)
        sink.send(part)
        sink.close("FINISHED", [])
    theirs.finish()
    forget_wandb()
    assert [e.time for e in read_back(home.source)] == [e.time for e in EVENTS[:9]]


def test_a_run_of_the_same_id_in_another_project(monkeypatch):
    """Fragments of another project are another run, which holds nothing for this one."""
    monkeypatch.setenv("WANDB_PROJECT", "one")
    home = go_on(RUN, EVENTS[:3])
    forget_wandb()
    monkeypatch.setenv("WANDB_PROJECT", "two")
    sink = WandbSink.create()
    sink.open(RUN)
    assert sink.settle(Receipt(source=home.source, at=EVENTS[2].time, base=0.0)) == 0.0
    sink.close("FINISHED", [])


def test_the_server_must_answer(wandb_backend):
    """Where the history cannot be read nothing is assumed: the delivery tries again."""
    go_on(RUN, EVENTS[:3])
    sink = WandbSink.create()
    sink.open(RUN)
    wandb_backend.faults.answer("HistoryPage", 404)
    with pytest.raises(Exception, match="404"):
        sink.settle(None)
    wandb_backend.faults.clear()
    assert sink.settle(None) == EVENTS[2].time
    sink.close("FINISHED", [])
