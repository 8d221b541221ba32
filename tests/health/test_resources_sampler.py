"""The sampler samples beside the training until it is stopped, whatever fails, and holds nobody up."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from pathlib import Path

import pytest

from rldk.errors import ForkedError, JournalError
from rldk.health import resources
from rldk.health.gpus import Gpus
from rldk.health.resources import Sampler

WAIT_S = 60


@pytest.fixture
def samples():
    """Where a sampler puts its samples, with the thread that it did so on."""
    return queue.Queue()


@pytest.fixture
def start(samples):
    """Start a sampler; it is stopped in any case."""
    started = []

    def begin(interval_s=0.01, emit=None, **options):
        def put(sample):
            samples.put((sample, threading.current_thread()))

        started.append(Sampler(emit or put, interval_s, **options))
        started[-1].start()
        return started[-1]

    yield begin
    for sampler in started:
        sampler.stop()


def test_it_goes_on_until_it_is_stopped(start, samples, tmp_path):
    """On a thread of its own, and on none afterwards."""
    sampler = start(folder=tmp_path)
    told = [samples.get(timeout=WAIT_S) for _ in range(3)]
    sampler.stop()
    while not samples.empty():
        samples.get()
    assert all(sample["process_rss_bytes"] > 0 for sample, _ in told)
    assert {thread.name for _, thread in told} == {"rldk-resources"}
    assert not [thread for thread in threading.enumerate() if thread.name == "rldk-resources"]
    assert samples.empty()


def test_the_first_sample_does_not_wait_for_the_interval(start, samples, monkeypatch):
    """A run shorter than that has one, too."""
    monkeypatch.setattr(resources, "_FIRST_S", 0.01)
    start(interval_s=3600)
    assert samples.get(timeout=WAIT_S)


def test_a_last_sample_is_taken_at_the_end(start, samples, monkeypatch):
    """By the caller of stop: its thread may hold what the recorder needs, as in a signal's handler."""
    monkeypatch.setattr(resources, "_FIRST_S", 0.0)
    sampler = start(interval_s=3600)
    samples.get(timeout=WAIT_S)
    sampler.stop()
    last, thread = samples.get_nowait()
    assert last["process_rss_bytes"] > 0
    assert thread is threading.current_thread()
    sampler.stop()
    assert samples.empty()


def test_a_run_that_ends_at_once_has_no_sample(start, samples, monkeypatch):
    """There is nothing to tell of it; neither has one that never began."""
    monkeypatch.setattr(resources, "_FIRST_S", 3600.0)
    start(interval_s=3600).stop()
    Sampler(samples.put).stop()
    assert samples.empty()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        JournalError(Path("j"), "full", "free it"),
        ValueError("write to closed file"),
        ForkedError("r", 1),
    ],
)
def test_a_sample_that_cannot_be_recorded_does_not_end_it(start, samples, caplog, error):
    """It is said once, and the next one is tried."""
    failing = threading.Event()
    failing.set()
    tries = []

    def emit(sample):
        tries.append(sample)
        if failing.is_set():
            failing.clear() if len(tries) == 3 else None
            raise error
        samples.put(sample)

    start(emit=emit)
    assert samples.get(timeout=WAIT_S)
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warned] == [
        f"a sample of resources is lost, monitoring goes on: {error}"
    ]


def test_numbers_that_are_not_finite_are_left_out(monkeypatch):
    """A sample has none."""
    monkeypatch.setattr(Gpus, "sample", lambda _: {"gpu0_power_w": float("nan"), "gpu0_util_percent": 3})
    told = Sampler(print).sample()
    assert told["gpu0_util_percent"] == 3
    assert "gpu0_power_w" not in told
    assert {type(value) for value in told.values()} == {int, float}


def test_a_driver_that_hangs_does_not_hold_up_the_end(start, samples, monkeypatch):
    """Nor is a sample told once the sampler was stopped."""
    asked, answers = threading.Event(), threading.Event()

    def hang(_):
        asked.set()
        answers.wait(WAIT_S)
        return {}

    monkeypatch.setattr(Gpus, "sample", hang)
    monkeypatch.setattr(resources, "_PATIENCE_S", 0.01)
    sampler = start()
    assert asked.wait(WAIT_S)
    sampler.stop()
    assert sampler._thread.is_alive()
    answers.set()
    sampler._thread.join(WAIT_S)
    assert samples.empty()


def test_a_system_without_threads_left_costs_the_samples_alone(monkeypatch, caplog):
    """The training goes on."""

    def refuse(_):
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sampler = Sampler(print)
    sampler.start()
    sampler.stop()
    assert "resources are not monitored: can't start new thread" in caplog.text


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_does_not_sample(start, samples, tmp_path):
    """A data loader's worker inherits the sampler, but neither goes on with it nor ends it."""
    file = tmp_path / "samples"
    parent = os.getpid()

    def emit(sample):
        samples.put(sample)
        if os.getpid() != parent:
            file.write_text("sampled")

    sampler = start(emit=emit)
    samples.get(timeout=WAIT_S)
    pid = os.fork()
    if pid == 0:
        try:
            sampler.start()
            time.sleep(0.1)  # ten intervals
            sampler.stop()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert samples.get(timeout=WAIT_S)
    assert not file.exists()
