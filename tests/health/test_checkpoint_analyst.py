"""Checkpoints are analysed off the training thread, in their order, and nothing of it holds up training."""

import os
import shutil
import subprocess
import sys
import threading
import warnings
from itertools import pairwise

import pytest

from rldk.errors import JournalError
from rldk.health.checkpoints import Analyst, analyst, arithmetic
from tests.health._checkpoints import save, weights

torch = pytest.importorskip("torch")


class Told:
    """Keeps what an analyst emits, and the thread that it came from."""

    def __init__(self):
        self.events = {}
        self.threads = set()

    def __call__(self, step, metrics, facts):
        """Keep an event; there is one for each step."""
        assert step not in self.events
        self.events[step] = (metrics, facts)
        self.threads.add(threading.current_thread().name)

    def analysis(self, step):
        """The analysis of a step."""
        return self.events[step][1]["analysis"]

    def why(self, step):
        """Why a step was not analysed."""
        return self.analysis(step)["unavailable"]["weights"]


@pytest.fixture
def run(tmp_path):
    """Three checkpoints of a run."""
    made = {}
    for step in (10, 20, 30):
        tensors = {name: each + step * 1e-4 for name, each in weights().items()}
        made[step] = save(tmp_path / f"checkpoint-{step}", tensors)
    return made


@pytest.fixture
def hold(monkeypatch):
    """Have the analysis stand still at its first tensor until it is let go."""
    reached, go = threading.Event(), threading.Event()
    measure = arithmetic.Ruler.measure

    def held(ruler, *arguments):
        reached.set()
        go.wait(60)
        ruler._pause()
        return measure(ruler, *arguments)

    monkeypatch.setattr(arithmetic.Ruler, "measure", held)
    yield reached, go
    go.set()


def test_each_is_compared_with_the_previous_and_the_first(run):
    """In their order, on one thread that is not the caller's."""
    told, each = Told(), Analyst(trainable=(1, 4), trainer="PPO")
    for step, folder in run.items():
        each.submit(step, folder, told)
        wait(lambda step=step: step in told.events)
    assert each.finish(60) == []
    assert list(told.events) == [10, 20, 30]
    assert told.threads == {"rldk-checkpoints"}
    assert "no previous checkpoint" in told.analysis(10)["unavailable"]["relative_change"]
    first = [told.events[step][0].get("relative_change_first") for step in run]
    assert first[2] == pytest.approx(2 * first[1], rel=1e-3)
    metrics, facts = told.events[30]
    assert metrics["relative_change"] == pytest.approx(first[1], rel=1e-2)
    assert metrics["files"] == 1
    assert metrics["trainable_frac"] == 0.25
    assert facts["checkpoint"] == str(run[30])
    assert "value_head" in facts["analysis"]["unavailable"]


def wait(is_done):
    """Wait for another thread."""
    pause = threading.Event()
    for _ in range(6000):
        if is_done():
            return
        pause.wait(0.01)
    pytest.fail("it did not happen within a minute")


def test_a_previous_one_that_is_gone_is_remembered(run, tmp_path):
    """By norms and checksums: whether it has changed is known without its files."""
    told, each = Told(), Analyst()
    again = save(tmp_path / "checkpoint-40", {name: x + 30e-4 for name, x in weights().items()})
    for step, folder in [*run.items(), (40, again)]:
        each.submit(step, folder, told)
        wait(lambda step=step: step in told.events)
        shutil.rmtree(folder)  # as save_total_limit=1 does
    assert each.finish(60) == []
    assert "gone" in told.analysis(30)["unavailable"]["relative_change"] or "no such" in str(
        told.analysis(30)
    )
    assert "relative_change" not in told.events[30][0]
    assert told.analysis(30)["norm_change"] == pytest.approx(
        told.events[30][0]["norm"] / told.events[20][0]["norm"] - 1, rel=1e-6
    )
    assert told.analysis(30)["findings"] == []
    assert [each["rule"] for each in told.analysis(40)["findings"]] == ["checkpoint_unchanged"]


def test_what_is_remembered_finds_dead_and_exploding_layers(tmp_path):
    """When the earlier files are gone."""
    told, each = Told(), Analyst()
    tensors = weights()
    each.submit(1, save(tmp_path / "1", tensors), told)
    wait(lambda: 1 in told.events)
    shutil.rmtree(tmp_path / "1")
    tensors["model.layers.0.up.weight"].zero_()
    tensors["model.layers.1.up.weight"] *= 50
    each.submit(2, save(tmp_path / "2", tensors), told)
    assert each.finish(60) == []
    rules = [each["rule"] for each in told.analysis(2)["findings"]]
    assert rules == ["checkpoint_dead_layers", "checkpoint_exploding_layers"]


def test_a_resumed_run_goes_on_from_its_earlier_checkpoints(run):
    """Which are read again, for nothing is remembered of them."""
    told, each = Told(), Analyst(earlier=[run[10], run[20]])
    each.submit(30, run[30], told)
    assert each.finish(60) == []
    metrics = told.events[30][0]
    assert metrics["relative_change_first"] == pytest.approx(2 * metrics["relative_change"], rel=1e-2)


def test_a_broken_checkpoint_is_told_and_the_next_one_analysed(run, tmp_path):
    """Beside the last one that could be read."""
    told, each = Told(), Analyst()
    (run[20] / "model.safetensors").write_bytes(b"broken")
    for step, folder in [*run.items(), (31, tmp_path / "none")]:
        each.submit(step, folder, told)
        wait(lambda step=step: step in told.events)
    assert each.finish(60) == []
    assert "damaged" in told.why(20)
    assert told.events[20][0] == {"files": 1, "size_bytes": 6}
    assert "relative_change" in told.events[30][0]
    assert "no such folder" in told.why(31)


def test_when_training_saves_faster_the_oldest_waiting_are_left_out(run, hold):
    """They are told, and counted; the last one is analysed."""
    reached, go = hold
    told, each = Told(), Analyst()
    each.submit(0, run[10], told)
    assert reached.wait(60)
    for step in range(1, 6):
        each.submit(step, run[20], told)
    go.set()
    assert each.finish(60) == []
    assert each.skipped == 3
    assert sorted(told.events) == list(range(6))
    assert all("left out" in told.why(step) for step in (1, 2, 3))
    assert all("norm" in told.events[step][0] for step in (0, 4, 5))
    assert analyst.MOST_WAITING == 2


def test_finish_gives_up_at_its_deadline(run, hold):
    """What was not analysed is told and named; nothing is emitted afterwards."""
    reached, go = hold
    told, each = Told(), Analyst()
    each.submit(10, run[10], told)
    assert reached.wait(60)
    each.submit(20, run[20], told)
    threading.Timer(0.2, go.set).start()
    assert each.finish(0) == [10, 20]
    assert "training has ended" in told.why(10)
    assert "training has ended" in told.why(20)
    each.submit(30, run[30], told)
    assert each.finish(0) == []
    assert 30 not in told.events


def test_finish_without_a_checkpoint_returns(run):
    """As does one that is called twice."""
    each = Analyst()
    assert each.finish(60) == []
    told, each = Told(), Analyst()
    each.submit(10, run[10], told)
    assert each.finish(60) == []
    assert each.finish(60) == []
    assert 10 in told.events


def test_an_emit_that_fails_ends_nothing(run, caplog, tmp_path):
    """It is logged."""
    told, each = Told(), Analyst()

    def fail(*_):
        raise JournalError(tmp_path, "the disk is full", "free some space")

    each.submit(10, run[10], fail)
    each.submit(20, run[20], told)
    assert each.finish(60) == []
    assert "relative_change" in told.events[20][0]
    assert "the disk is full" in caplog.text


def test_a_process_without_threads_goes_on_training(run, monkeypatch, caplog):
    """The checkpoint is told as not analysed."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    told, each = Told(), Analyst()
    each.submit(10, run[10], told)
    assert each.finish(0) == [10]
    assert "files" in told.events[10][0]
    assert "new thread" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_nothing(run, hold):
    """Nor does it wait for a thread that it has not, or a lock that nobody gives back."""
    reached, go = hold
    told, each = Told(), Analyst()
    each.submit(10, run[10], told)
    assert reached.wait(60)
    with warnings.catch_warnings(), each._changed:
        warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
        child = os.fork()
        if child == 0:
            each.submit(20, run[20], told)
            os._exit(len(each._waiting) or len(each.finish(60)))
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    assert each.finish(60) == []
    assert list(told.events) == [10]


def test_the_process_ends_in_the_middle_of_an_analysis(run):
    """Its thread does not keep it alive."""
    program = """
import sys, threading
from pathlib import Path
from rldk.health.checkpoints import Analyst, arithmetic
reached = threading.Event()
arithmetic.Ruler.measure = lambda *_: (reached.set(), threading.Event().wait())
Analyst().submit(1, Path(sys.argv[1]), print)
reached.wait()
"""
    subprocess.run([sys.executable, "-c", program, str(run[10])], check=True, timeout=60)


def test_torch_keeps_its_threads_and_is_not_even_loaded(run):
    """What is read needs neither torch nor safetensors."""
    program = """
import sys
from pathlib import Path
from rldk.health import checkpoints
assert "numpy" not in sys.modules
told = checkpoints.analyse(*map(Path, sys.argv[1:]))
assert "relative_change" in told.metrics
print(*sorted({"torch", "safetensors", "pandas"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, str(run[20]), str(run[10])]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


def test_it_rests_so_that_the_interpreter_is_free(run, monkeypatch):
    """Again and again, in a long analysis."""
    rests = []
    monkeypatch.setattr(analyst, "_WORK_S", 0)
    monkeypatch.setattr(analyst.time, "sleep", rests.append)
    told, each = Told(), Analyst()
    each.submit(10, run[10], told)
    assert each.finish(60) == []
    assert rests == [analyst._REST_S] * 7


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_its_thread_alone_has_a_low_priority(run):
    """The training's threads keep theirs."""
    found, each, before = [], Analyst(), os.getpriority(os.PRIO_PROCESS, 0)
    each.submit(
        10, run[10], lambda *_: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    )
    assert each.finish(60) == []
    assert found == [max(before, 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_the_same_checkpoint_saved_again_is_not_its_own_previous_one(run):
    """At the end of training a step may be saved twice."""
    told, each = Told(), Analyst()
    for step, folder in [(10, run[10]), (20, run[20]), (21, run[20])]:
        each.submit(step, folder, told)
        wait(lambda step=step: step in told.events)
    assert each.finish(60) == []
    assert all(not told.analysis(step)["findings"] for step in told.events)
    assert all(a < b for a, b in pairwise(told.events))
