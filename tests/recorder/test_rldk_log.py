"""rldk.log records a user's own numbers with the trainer's next log, and costs the training nothing."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

import rldk
from rldk import journal, live
from rldk.health.rule_files import rules_with
from rldk.ingest import ingest_runs
from rldk.journal import Journal
from rldk.recorder import Recorder, Run
from rldk.scalars import Scalars
from rldk.settings import Settings


@pytest.fixture
def recorder(tmp_path):
    """A recorder that has begun; it is ended after the test."""
    yield from recording(tmp_path)


def recording(tmp_path, **options):
    """Begin a recorder, and end it."""
    path = tmp_path / "r_events.jsonl"
    recorder = Recorder(Journal(path), Run(run_id="r", trainer="GRPO"), settings=Settings(), **options)
    recorder.begin(0, [])
    yield recorder
    recorder.end("FINISHED", 9)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(live, "_said", set())


def rows(recorder):
    """What the journal holds: step, phase and metrics of each row."""
    events = [entry.event for entry in journal.read(recorder.journal.path)]
    return [(e.step, e.phase, e.metrics) for e in events if e.kind == "metrics"]


def notes(recorder):
    """All notes of the journal."""
    return [note for entry in journal.read(recorder.journal.path) for note in entry.event.notes]


def test_it_goes_with_the_next_log(recorder):
    """In the same row, once."""
    rldk.log({"judge": 0.5})
    recorder.log(1, {"reward": 1.0})
    recorder.log(2, {"reward": 2.0})
    assert rows(recorder) == [
        (1, "train", {"reward_mean": 1.0, "judge": 0.5}),
        (2, "train", {"reward_mean": 2.0}),
    ]


def test_the_last_value_before_a_log_wins(recorder):
    """As of several wandb.log of one step; each name for itself."""
    rldk.log({"judge": 0.1, "length": 7})
    rldk.log({"judge": 0.9})
    recorder.log(1, {"reward": 1.0})
    assert rows(recorder) == [(1, "train", {"reward_mean": 1.0, "judge": 0.9, "length": 7})]


def test_a_named_step_gets_its_own_row(recorder):
    """Earlier steps have theirs, the log's own is merged, and a later one waits for it."""
    for step in (1, 2, 3, 5):
        rldk.log({"judge": step / 10}, step=step)
    recorder.log(3, {"reward": 1.0})
    recorder.log(6, {"reward": 2.0})
    table = ingest_runs(recorder.journal.path)
    assert table["step"].tolist() == [1, 2, 3, 5, 6]
    assert table["judge"].tolist()[:4] == [0.1, 0.2, 0.3, 0.5]
    assert table["reward_mean"].isna().tolist() == [True, True, False, True, False]


def test_no_number_of_the_trainer_is_touched(recorder):
    """Its names are its own, and the user's keep theirs: `reward` is not what the catalog calls reward."""
    rldk.log({"reward_mean": 5.0, "reward": 7.0})
    recorder.log(1, {"reward": 1.0})
    assert rows(recorder) == [(1, "train", {"reward_mean": 1.0, "raw/reward_mean": 5.0, "reward": 7.0})]
    assert notes(recorder) == ["reward_mean has the name of another metric and is kept as raw/reward_mean"]


def test_an_evaluation_has_its_own(recorder):
    """By the prefix, or because the trainer evaluates; what training has logged waits for training."""
    rldk.log({"judge": 0.1})
    recorder.inbox.phase = "eval"
    rldk.log({"judge": 0.9})
    recorder.inbox.phase = "train"
    rldk.log({"eval_style": 0.8})
    recorder.log(4, {"eval_reward": 1.0})
    recorder.log(5, {"reward": 2.0})
    assert rows(recorder) == [
        (4, "eval", {"reward_mean": 1.0, "judge": 0.9, "style": 0.8}),
        (5, "train", {"reward_mean": 2.0, "judge": 0.1}),
    ]


def test_numbers_of_every_kind_are_taken(recorder):
    """numpy's, fractions, nested ones; NaN is a measurement, and None is none."""
    nan = float("nan")
    rldk.log(
        {"a": np.float32(0.5), "b": Fraction(1, 4), "c": {"d": True}, "e": nan, "f": None, "g": 10**9999}
    )
    rldk.log({"h": Fraction(10**400), "i": Fraction(-(10**400), 3)})
    recorder.log(1, {"loss": 1.0})
    [(_, _, metrics)] = rows(recorder)
    inf = float("inf")
    told = {"loss": 1.0, "a": 0.5, "b": 0.25, "c/d": 1, "e": nan, "g": inf, "h": inf, "i": -inf}
    assert repr(metrics) == repr(told)


def test_a_number_that_refuses_to_be_read_is_left_out(recorder):
    """The caller goes on."""

    class Odd(Fraction):
        def __float__(self):
            raise ValueError

    rldk.log({"judge": Odd(1, 2), "length": 3})
    recorder.log(1, {"loss": 1.0})
    assert rows(recorder) == [(1, "train", {"loss": 1.0, "length": 3})]


def test_what_is_no_number_is_said_and_left_out(recorder, caplog):
    """The caller goes on, the journal has a note at each log, and the warning comes once."""
    for step in (1, 2):
        rldk.log({"judge": "good", "length": 3})
        rldk.log("nonsense")
        rldk.log({"other": 1.0}, step="soon")
        recorder.log(step, {"loss": 1.0})
    assert rows(recorder)[0] == (1, "train", {"loss": 1.0, "length": 3, "other": 1.0})
    said = [
        "judge is no number but str, and was left out",
        "rldk.log takes a mapping of names to numbers; it was given str, which was left out",
        "rldk.log: step 'soon' is no step; the numbers go with the next log",
    ]
    assert notes(recorder) == said * 2
    assert [r.message.partition(": ")[2] for r in caplog.records if r.levelno == logging.WARNING] == said


@pytest.mark.parametrize("step", [-1, 2**63, 1.5, float("nan"), True.__class__, [3]])
def test_what_is_no_step_costs_no_number(recorder, step):
    """Nor the trainer's own log."""
    rldk.log({"judge": 1.0}, step)
    recorder.log(2, {"loss": 1.0})
    assert rows(recorder) == [(2, "train", {"loss": 1.0, "judge": 1.0})]


def test_secrets_in_names_are_hidden(recorder):
    """As in the trainer's own."""
    rldk.log({"https://user:hunter2@host/score": 1.0})
    recorder.log(1, {"loss": 1.0})
    assert "hunter2" not in recorder.journal.path.read_text()


def test_what_is_left_at_the_end_is_recorded(tmp_path):
    """At the last step, or at that which was named."""
    recorder = next(recording(tmp_path))
    rldk.log({"judge": 0.5})
    rldk.log({"judge": 0.7}, step=12)
    recorder.end("FINISHED", 9)
    assert rows(recorder) == [(9, "train", {"judge": 0.5}), (12, "train", {"judge": 0.7})]


def test_rules_see_it(tmp_path):
    """A rule of the user's about a number of the user's."""
    rule = tmp_path / "rules.toml"
    rule.write_text('[[rule]]\nname = "judge_low"\nwhen = "judge < 0.2"\n')
    for recorder in recording(tmp_path, rules=rules_with(rule)):
        rldk.log({"judge": 0.1})
        recorder.log(1, {"reward": 1.0})
        assert "judge_low" in recorder.monitor.firing


def test_steps_that_are_not_recorded_lose_nothing(tmp_path):
    """With jsonl_log_interval, a value waits for the next row that is written; a newer one replaces it."""
    for recorder in recording(tmp_path, every_steps=3):
        recorder.log(1, {"loss": 1.0})
        rldk.log({"judge": 0.1, "style": 0.2})
        recorder.log(2, {"loss": 1.0})
        rldk.log({"judge": 0.3})
        recorder.log(3, {"loss": 1.0})
        recorder.log(4, {"loss": 1.0})
        assert rows(recorder)[-1] == (4, "train", {"loss": 1.0, "judge": 0.3, "style": 0.2})
        assert len(rows(recorder)) == 2


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_named_step_is_no_staler_than_the_next_log(tmp_path, ahead):
    """With jsonl_log_interval, a row that is written holds what its own step was given, early or not."""
    for recorder in recording(tmp_path, every_steps=10):
        for step in range(1, 22):
            rldk.log({"judge": step / 100}, step=step + ahead)
            if step == 7:
                rldk.log({"style": 0.7}, step=step)
            recorder.log(step, {"loss": 1.0})
        judged = {1: 0.01, 11: 0.11, 21: 0.21} if not ahead else {1: None, 11: 0.1, 21: 0.2}
        assert {step: metrics.get("judge") for step, _, metrics in rows(recorder)} == judged
        assert [metrics.get("style") for _, _, metrics in rows(recorder)] == [None, 0.7, None]


def test_the_last_value_wins_whether_it_named_the_step_or_not(recorder):
    """Order alone counts."""
    rldk.log({"judge": 0.1, "style": 0.2})
    rldk.log({"judge": 0.3}, step=1)
    rldk.log({"style": 0.4})
    recorder.log(1, {"loss": 1.0})
    assert rows(recorder) == [(1, "train", {"loss": 1.0, "judge": 0.3, "style": 0.4})]


def test_each_recorder_of_the_process_gets_it(tmp_path):
    """Two callbacks on a trainer record the same; one that has ended gets nothing more."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (next(recording(tmp_path / name)) for name in ("a", "b"))
    rldk.log({"judge": 0.5})
    for each in (one, two):
        each.log(1, {"loss": 1.0})
    two.end("FINISHED", 1)
    rldk.log({"judge": 0.6})
    one.log(2, {"loss": 1.0})
    assert [row[2]["judge"] for row in rows(one)] == [0.5, 0.6]
    assert [row[2]["judge"] for row in rows(two)] == [0.5]
    one.end("FINISHED", 2)


def test_without_a_run_it_warns_once(caplog):
    """And raises nothing."""
    for _ in range(3):
        rldk.log({"judge": 0.5})
    [record] = caplog.records
    assert "no run is recorded in this process" in record.message


def test_other_ranks_say_nothing(caplog, monkeypatch):
    """There it is no mistake: the main process alone records."""
    monkeypatch.setenv("RANK", "3")
    rldk.log({"judge": 0.5})
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_records_nothing(recorder):
    """A data loader's worker is told so, and its parent's run is untouched."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            rldk.log({"judge": 0.5})
            code = 0 if any("fork" in said for said in live._said) and not recorder.inbox else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    recorder.log(1, {"loss": 1.0})
    assert rows(recorder) == [(1, "train", {"loss": 1.0})]


def test_threads_lose_nothing(tmp_path):
    """Four threads log steps of their own while the trainer logs: each is there in the end."""
    recorder = next(recording(tmp_path))

    def work(number):
        for step in range(1, 201):
            rldk.log({f"t{number}": step}, step=step)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for step in range(1, 201, 20):
        recorder.log(step, {"loss": 1.0})
    for thread in threads:
        thread.join()
    recorder.end("FINISHED", 200)
    table = ingest_runs(recorder.journal.path).set_index("step")
    for number in range(4):
        assert table[f"t{number}"].dropna().tolist() == list(range(1, 201))


def test_a_trainer_that_never_logs_costs_no_memory(recorder, monkeypatch):
    """What is left out then is counted and said: the earliest."""
    monkeypatch.setattr(live, "_MOST_WAITING", 100)
    for step in range(105):
        rldk.log({"judge": 1.0}, step=step)
    recorder.log(200, {"loss": 1.0})
    assert [step for step, _, _ in rows(recorder)] == [*range(5, 105), 200]
    assert [note for note in notes(recorder) if "5 more numbers than the 100" in note]


class Interrupted:
    """Calls something from a signal's handler, time and again, while it is open."""

    def __init__(self, call):
        self._call = call
        self.calls = 0

    def _handle(self, *_):
        self.calls += 1
        self._call()

    def __enter__(self):
        self._previous = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)


def test_a_signal_may_take_what_is_there_at_any_moment(monkeypatch):
    """In the midst of whatever the same thread does with the inbox: nothing is raised, and nothing twice."""
    monkeypatch.setattr(live, "_MOST_WAITING", 50)
    inbox = live.Inbox()
    taken = []

    def take():
        taken.extend(inbox.take(0, until=10**9))

    with Interrupted(take) as signals:
        step = 0
        while signals.calls < 200:
            step += 1
            inbox.put(Scalars(("judge", "eval_judge"), (step, -step), ["a note"]), step)
            if step % 7 == 0:
                inbox.give_back(inbox.take(step))
                inbox.phase = None
            if step % 11 == 0:
                inbox.evaluates()
    take()
    judged = [(own.phase, own.numbers["judge"]) for own in taken if "judge" in own.numbers]
    assert len(judged) == len(set(judged))
    assert not inbox


@pytest.mark.parametrize("waiting", [0, live._MOST_WAITING])
def test_it_costs_microseconds(recorder, waiting):
    """Less than 50 of them, of a hundred calls' median, however much waits."""
    for step in range(waiting):
        rldk.log({"judge": 0.5}, step=step + 10)
    spent = []
    for step in range(100):
        start = time.perf_counter()
        rldk.log({"judge": 0.5, "length": 17.0}, step=waiting + step)
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[50] < 50e-6
    assert recorder.inbox
    recorder.inbox.take(0, until=math.inf)


def test_a_recorder_that_nobody_keeps_gets_nothing(tmp_path, caplog):
    """One that never ended is not held by what it was to be given."""
    recorder = next(recording(tmp_path))
    recorder.journal.close()
    del recorder
    rldk.log({"judge": 0.5})
    assert "no run is recorded" in caplog.text


def test_the_import_is_light():
    """`import rldk` brings nothing but the standard library."""
    program = "import sys; before = set(sys.modules); import rldk; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"rldk"}
