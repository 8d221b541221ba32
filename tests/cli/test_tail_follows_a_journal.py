"""A journal is followed whatever becomes of it: it grows, is torn, cut, replaced, removed and put back."""

from __future__ import annotations

import itertools
import json
import os
import shutil

import pytest

from rldk import journal as journals
from rldk.cursor import Cursor, CursorFile, beginning
from rldk.tail.delivery import lags
from rldk.tail.finding import find
from rldk.tail.following import Follower
from rldk.tail.standing import standing
from tests.cli._tail_runs import Writer


@pytest.fixture
def writer(tmp_path):
    """A run of 1000 steps that is being written."""
    made = Writer(tmp_path, max_steps=1000)
    yield made
    made.journal.close()


def last(follower, name="reward_mean"):
    """The newest value of a metric."""
    return follower.state.traces["train", name].last.value


def test_only_new_bytes_are_read(writer, monkeypatch):
    """After the start each look begins where the last one ended, and a quiet journal is not read at all."""
    writer.logs(1, 10)
    follower = Follower(writer.path)
    assert follower.read()
    asked = []
    real = journals.read
    monkeypatch.setattr(journals, "read", lambda path, offset=0: asked.append(offset) or real(path, offset))
    assert not follower.read()
    before = writer.path.stat().st_size
    writer.logs(11, 12)
    assert follower.read()
    assert asked == [before]
    assert (follower.state.step, last(follower)) == (12, 0.12)


def test_a_torn_line_is_left_until_it_is_whole(writer):
    """What is still being written is read with the next look, and no line twice."""
    writer.logs(1, 3)
    follower = Follower(writer.path)
    follower.read()
    line = writer.path.read_bytes().splitlines(keepends=True)[-1].replace(b'"step":3', b'"step":4')
    with writer.path.open("ab") as file:
        file.write(line[:40])
        file.flush()
        follower.read()
        assert follower.state.step == 3
        file.write(line[40:])
    follower.read()
    assert (follower.state.step, follower.state.traces["train", "loss"].count) == (4, 4)


def test_a_cut_journal_is_read_anew(writer):
    """A file that is shorter than what was read is another one."""
    writer.logs(1, 20)
    follower = Follower(writer.path)
    follower.read()
    os.truncate(writer.path, writer.path.read_bytes().index(b'"step":6,'))
    follower.read()
    assert follower.state.step == 5


def test_another_file_of_the_name_is_read_anew(writer, tmp_path):
    """Rotation: a new file, even a longer one, is not taken for what follows the old one."""
    writer.logs(1, 3)
    follower = Follower(writer.path)
    follower.read()
    (tmp_path / "new").mkdir()
    other = Writer(tmp_path / "new", trainer="DPO")
    other.logs(1, 50)
    other.journal.close()
    other.path.replace(writer.path)
    follower.read()
    assert (follower.state.trainer, follower.state.step) == ("DPO", 50)


def test_a_file_that_is_written_over_is_read_anew(writer, tmp_path):
    """The same file with other content, longer than before: its beginning tells."""
    writer.logs(1, 3)
    follower = Follower(writer.path)
    follower.read()
    follower.read()
    (tmp_path / "new").mkdir()
    other = Writer(tmp_path / "new", trainer="DPO")
    other.logs(1, 50)
    other.journal.close()
    shutil.copyfile(other.path, writer.path)
    follower.read()
    assert (follower.state.trainer, follower.state.traces["train", "loss"].count) == ("DPO", 50)


def test_a_removed_journal_is_waited_for(writer):
    """It is told, and what is put back is read."""
    writer.logs(1, 3)
    follower = Follower(writer.path)
    follower.read()
    content = writer.path.read_bytes()
    writer.path.unlink()
    assert not follower.read()
    assert standing(follower, 0.0).life == "waiting"
    assert "not there" in follower.trouble
    writer.path.write_bytes(content)
    assert follower.read()
    assert (follower.trouble, follower.state.step) == ("", 3)


def test_lines_without_an_event_are_counted(writer):
    """Junk in a journal is no reason to end."""
    writer.logs(1, 2)
    with writer.path.open("ab") as file:
        file.write(b"\xff junk\n{}\n")
    follower = Follower(writer.path)
    follower.read()
    assert (follower.state.unreadable, follower.state.step) == (2, 2)


def test_a_resume_supersedes_what_is_beyond_it(writer):
    """Training goes on from step 5: later points are gone, and the end is no end any more."""
    writer.logs(1, 20)
    writer.add("end", 20, status="KILLED")
    follower = Follower(writer.path)
    follower.read()
    assert follower.state.status == "KILLED"
    writer.add("run", 5, trainer="GRPO", args={"max_steps": 1000})
    follower.read()
    assert (follower.state.status, follower.state.step, last(follower)) == ("", 5, 0.05)
    writer.logs(6, 7)
    follower.read()
    assert [point.step for point in follower.state.traces["train", "loss"].points()] == [1, 2, 3, 4, 5, 6, 7]


def test_life_is_told(writer):
    """Running while a process has it, silent where that logs nothing, stale without it, ended at its end."""
    writer.logs(1, 20)
    follower = Follower(writer.path)
    follower.read()
    assert standing(follower, writer.time + 5).life == "running"
    assert standing(follower, writer.time + 500).life == "silent"
    writer.journal.close()
    assert standing(follower, writer.time + 5).life == "stale"
    assert standing(follower, writer.time + 5).is_bad


@pytest.mark.parametrize(("status", "verdict", "is_bad"), [
    ("FINISHED", "ok", False),
    ("FINISHED", "warning", False),
    ("FINISHED", "critical", True),
    ("FAILED", "ok", True),
    ("KILLED", "ok", True),
])  # fmt: skip
def test_the_end_is_told(writer, status, verdict, is_bad):
    """How it ended, and whether that is a finding."""
    writer.logs(1, 2)
    writer.end(2, status, verdict)
    follower = Follower(writer.path)
    follower.read()
    told = standing(follower, writer.time)
    assert (told.life, told.state.status, told.is_bad) == ("ended", status, is_bad)


def test_the_rest_of_the_run_is_reckoned(writer):
    """One step a second, 1000 steps: after 100 there are 900 s left; epochs tell as much."""
    writer.logs(1, 100)
    follower = Follower(writer.path)
    follower.read()
    assert follower.state.steps_per_s == pytest.approx(1.0)
    assert follower.state.left_s == pytest.approx(900)


def test_epochs_tell_the_length(tmp_path):
    """Without max_steps the epochs so far say how many steps all of them take."""
    writer = Writer(tmp_path, max_steps=-1, num_train_epochs=4.0)
    writer.add("metrics", 50, {"loss": 1.0, "epoch": 0.5})
    writer.journal.close()
    follower = Follower(writer.path)
    follower.read()
    assert follower.state.max_steps == 400


def test_the_lag_of_each_tracker_is_told(writer):
    """By its cursor: events and seconds behind, what was refused; and a tracker that has nothing yet."""
    writer.logs(1, 10)
    follower = Follower(writer.path)
    follower.read()
    at = writer.time - 3
    CursorFile(writer.path, "wandb").save(
        Cursor(journal=follower.state.first, tracker_run="w1", at=at, seq=writer.seq - 4, rejected=2)
    )
    mlflow, wandb = lags(writer.path, follower.state)
    assert (mlflow.tracker, mlflow.events, mlflow.seconds, mlflow.run) == ("mlflow", 11, None, "m1")
    assert (wandb.events, wandb.seconds, wandb.rejected, wandb.run) == (3, pytest.approx(3), 2, "w1")


def test_the_trackers_of_a_run_with_a_longer_name_are_not_shown(writer, tmp_path, monkeypatch):
    """Those of `abc_2` are not those of `abc`, whether its journal is there or not."""
    writer.logs(1, 3)
    with monkeypatch.context() as later:
        later.setattr("time.time", lambda: writer.began + 70)
        other = Writer(tmp_path, run_id="abc_2")
    for path in (other.path, writer.path):
        CursorFile(path, "wandb").save(Cursor(journal=beginning(path), at=beginning(path), seq=0))
    follower = Follower(writer.path)
    follower.read()
    assert [lag.tracker for lag in lags(writer.path, follower.state)] == ["mlflow", "wandb"]
    other.journal.close()
    other.path.unlink()
    assert [lag.tracker for lag in lags(writer.path, follower.state)] == ["mlflow", "wandb"]


def test_who_delivers_is_seen(writer):
    """The lock beside the cursor is held while a delivery is at work."""
    follower = Follower(writer.path)
    follower.read()
    cursor = CursorFile(writer.path, "mlflow")
    assert not lags(writer.path, follower.state)[0].is_delivering
    cursor.take()
    assert lags(writer.path, follower.state)[0].is_delivering
    cursor.release()
    assert not lags(writer.path, follower.state)[0].is_delivering


def test_a_cursor_of_another_journal_counts_for_nothing(writer):
    """The journal was removed and begun anew: its cursor tells of the old one."""
    writer.logs(1, 2)
    follower = Follower(writer.path)
    follower.read()
    CursorFile(writer.path, "mlflow").save(Cursor(journal=1.0, at=5.0, seq=99))
    assert lags(writer.path, follower.state)[0].events == 3


def test_alerts_and_verdict_are_those_of_the_journal(writer):
    """The newest alert's verdict stands; what is over is no longer firing."""
    writer.logs(1, 5, kl_mean=3.0)
    writer.alert(5)
    follower = Follower(writer.path)
    follower.read()
    health = follower.state.health()
    assert (health.verdict, health.firing) == ("critical", ["kl_drift"])
    assert "entropy_collapse" in health.unavailable
    writer.alert(6, state="ok", verdict="ok")
    follower.read()
    assert follower.state.health().verdict == "ok"


def test_a_long_journal_is_read_at_its_ends_and_by_samples(tmp_path):
    """Of 40,000 logs a part is read; alerts, starts, the first and the newest steps are all there."""
    writer = Writer(tmp_path, max_steps=50_000)
    writer.logs(1, 5)
    writer.alert(5)
    writer.journal.close()
    pattern = writer.path.read_bytes().splitlines()[1]
    told = json.loads(pattern)
    with writer.path.open("ab") as file:
        for step in range(6, 40_000):
            told |= {
                "seq": writer.seq,
                "time": writer.time + step,
                "step": step,
                "metrics": {"loss": step / 7},
            }
            writer.seq += 1
            file.write(json.dumps(told, separators=(",", ":")).encode() + b"\n")
    assert writer.path.stat().st_size > 4 * 2**20
    follower = Follower(writer.path)
    follower.read()
    state, loss = follower.state, follower.state.traces["train", "loss"]
    assert (state.is_thinned, state.step, state.health().verdict) == (True, 39_999, "critical")
    assert 0 < loss.count < 10_000
    steps = [point.step for point in loss.points()]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 39_999)
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert max(gaps) < 2000  # no stretch is left out
    assert len(steps) <= 513


def test_memory_is_bounded_by_metrics_and_points(tmp_path):
    """A journal with ever new names keeps 2000 of them, and counts the others."""
    writer = Writer(tmp_path)
    for step in range(1, 6):
        writer.add("metrics", step, {f"m{step}/{number}": 1.0 for number in range(600)})
    writer.journal.close()
    follower = Follower(writer.path)
    follower.read()
    assert (len(follower.state.traces), follower.state.left_out) == (2000, 1000)


def test_a_run_is_found_by_file_folder_and_id(tmp_path, monkeypatch):
    """The newest of a folder, of the `rldk` in an output_dir, or the run of this id."""
    folder = tmp_path / "out" / "rldk"
    for number, run_id in enumerate(("old", "new")):
        writer = Writer(folder, run_id)
        writer.journal.close()
        os.utime(writer.path, (number, number))
    newest = folder / "new_events.jsonl"
    assert find(str(newest)) == find(str(folder)) == find(str(tmp_path / "out")) == newest
    monkeypatch.chdir(tmp_path / "out")
    assert find("old").name == "old_events.jsonl"
