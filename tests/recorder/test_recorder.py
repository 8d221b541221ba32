"""One segment of a run: every log becomes an event with the run's identity and its own time."""

from __future__ import annotations

import itertools

import pytest

from rldk import journal
from rldk.health.limits import limits
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.settings import Settings
from rldk.testing import ManualClock, MemorySink


@pytest.fixture
def clock():
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
def open_recorder(tmp_path, clock):
    """Open a recorder on the one journal; it is closed after the test."""
    opened = []

    def make(**options):
        run = Run(run_id="r", trainer="GRPO", git_sha="abc", seed=42, facts={"versions": {"trl": "1"}})
        opened.append(Journal(tmp_path / "r_events.jsonl"))
        return Recorder(opened[-1], run, settings=Settings(linger_s=0), **({"clock": clock} | options))

    yield make
    for each in opened:
        each.close()


def events_in(tmp_path):
    """Read the journal."""
    return [entry.event for entry in journal.read(tmp_path / "r_events.jsonl")]


def test_a_log_is_in_the_journal_when_the_call_returns(open_recorder, tmp_path, clock):
    """The event carries the run, the seed, the phase, and the time that passed."""
    recorder = open_recorder()
    recorder.begin(0, [])
    clock.advance(1.5)
    recorder.log(1, {"reward": 0.5})
    event = events_in(tmp_path)[1]
    assert (event.kind, event.step, event.wall_time, event.metrics) == (
        "metrics",
        1,
        1.5,
        {"reward_mean": 0.5},
    )
    assert event.rng == {"seed": 42}
    assert event.model_info == {"run_id": "r", "git_sha": "abc", "phase": "train", "segment": 0}


def test_a_run_tells_its_beginning_and_its_end(open_recorder, tmp_path):
    """The run event has the facts, the end event the summary and the status."""
    recorder = open_recorder()
    recorder.begin(0, [])
    recorder.log(2, {"train_runtime": 3.0, "train_loss": 0.1})
    recorder.end("FINISHED", 2)
    first, last = events_in(tmp_path)
    assert (first.kind, first.model_info["trainer"], first.model_info["versions"]) == (
        "run",
        "GRPO",
        {"trl": "1"},
    )
    assert (last.kind, last.metrics) == ("end", {"train_runtime": 3.0, "train_loss": 0.1})
    assert last.model_info["status"] == "FINISHED"


def test_no_two_events_carry_the_same_time(open_recorder, tmp_path):
    """A tracker can tell events apart by their time, even if the clock stands still."""
    recorder = open_recorder()
    recorder.begin(0, [])
    for step in range(5):
        recorder.log(step, {"loss": 1.0})
    times = [event.time for event in events_in(tmp_path)]
    assert all(round(b - a, 3) == 0.001 for a, b in itertools.pairwise(times))


def test_a_clock_that_steps_back_changes_nothing(open_recorder, tmp_path, clock):
    """Time within a segment follows the monotonic clock."""
    recorder = open_recorder()
    recorder.begin(0, [])
    clock.epoch -= 3600
    clock.elapsed += 2
    recorder.log(1, {"loss": 1.0})
    assert events_in(tmp_path)[1].wall_time == 2.0


def test_a_second_start_continues_the_journal(open_recorder, tmp_path):
    """Numbers and the run's own time go on; the segment counts the starts."""
    first = open_recorder()
    first.begin(0, [])
    first.end("FAILED", 0)
    later = ManualClock()
    later.advance(60)
    second = open_recorder(clock=later)
    second.begin(0, [])
    events = events_in(tmp_path)
    assert [event.seq for event in events] == [0, 1, 2]
    assert [event.segment for event in events] == [0, 0, 1]
    assert events[2].wall_time == 60.0


def test_evaluation_is_an_event_of_its_own(open_recorder, tmp_path):
    """eval_ keys have the same names in phase eval."""
    recorder = open_recorder()
    recorder.begin(0, [])
    recorder.log(1, {"eval_reward": 0.5, "epoch": 1.0})
    event = events_in(tmp_path)[1]
    assert (event.phase, event.metrics) == ("eval", {"reward_mean": 0.5, "epoch": 1.0})


def test_steps_between_the_interval_are_left_out(open_recorder, tmp_path):
    """every_steps thins training steps, never evaluations."""
    recorder = open_recorder(every_steps=5)
    recorder.begin(0, [])
    for step in range(1, 12):
        recorder.log(step, {"loss": 1.0})
    recorder.log(12, {"eval_loss": 1.0})
    assert [event.step for event in events_in(tmp_path)[1:]] == [1, 6, 11, 12]


def test_a_limit_that_is_exceeded_is_noted_in_the_same_event(open_recorder, tmp_path):
    """The user's limits are exact; a metric that was not logged exceeds none."""
    thresholds = {"clip_fraction": 0.2, "kl_divergence": 0.1, "gradient_norm": 1.0}
    recorder = open_recorder(rules=limits(thresholds))
    recorder.begin(0, [])
    recorder.log(1, {"clip_ratio/region_mean": 0.3, "grad_norm": 1.0})
    recorder.log(2, {"clip_ratio/region_mean": 0.2, "kl": 0.11, "grad_norm": 1.01})
    assert [event.notes for event in events_in(tmp_path) if event.kind == "metrics"] == [
        ["High clipping fraction detected"],
        ["High KL divergence detected", "Large gradient norm detected"],
    ]


def test_trackers_get_all_of_it(open_recorder, tmp_path):
    """The end of the segment waits for the deliveries and reports what they did."""
    recorder = open_recorder()
    sink = MemorySink()
    recorder.begin(0, [sink])
    recorder.log(1, {"loss": 1.0})
    reports = recorder.end("FINISHED", 1)
    assert sink.received == events_in(tmp_path)
    assert [(r.tracker, r.delivered, r.waiting) for r in reports] == [("memory", 3, 0)]
