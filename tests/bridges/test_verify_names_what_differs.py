"""`rldk verify` finds what one home of a run lacks, alters, repeats or adds, and names it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path

import pytest

from rldk.cursor import CursorFile
from rldk.verify import verify
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401
from tests.bridges._wandb_runs import wandb_offline  # noqa: F401

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


@pytest.fixture
def path(tmp_path):
    """A journal."""
    return record(tmp_path / "run", range(5))


def home_of(path, tracker):
    """Send the journal to a tracker, and give its place there."""
    assert rldk("sync", path, "--to", tracker).exit_code == 0
    return CursorFile(path, tracker).load().source


def changed_lines(path, change):
    """A copy of a journal in which the lines were changed by hand."""
    copy = path.parent / "copy" / path.name
    copy.parent.mkdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    copy.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    return copy


def faults(left, right):
    """What differs, by metric."""
    return {name: dict(counts) for name, counts in verify(str(left), str(right)).counts.items()}


def test_a_journal_agrees_with_itself(path):
    """Nothing differs, and the exit code is 0."""
    done = rldk("verify", path, path)
    assert (done.exit_code, done.output) == (0, "The same 17 points are in both.\n")


def test_an_altered_point_of_a_journal_is_named(path):
    """Metric, step, time, and both values."""

    def change(lines):
        lines[2]["metrics"]["reward_mean"] = 99.0
        return lines

    copy = changed_lines(path, change)
    done = rldk("verify", path, copy)
    assert done.exit_code == 1
    assert "rldk/reward_mean at step 2, time 1763847602.000: 0.14285714285714285 is 99.0" in done.output
    assert faults(path, copy) == {"rldk/reward_mean": {"altered": 1}}


def test_missing_repeated_and_extra_points_are_told_apart(path):
    """Each line of the copy that was left out, written twice, or added by hand."""

    def change(lines):
        del lines[1]
        lines.insert(3, lines[2])
        lines[4]["metrics"]["mine"] = 1.0
        return lines

    copy = changed_lines(path, change)
    assert faults(path, copy) == {
        "rldk/reward_mean": {"missing": 1, "repeated": 1},
        "rldk/kl_mean": {"missing": 1, "repeated": 1},
        "rldk/mine": {"extra": 1},
        "rldk/tokens_total": {"missing": 1, "repeated": 1},
    }


def test_nan_is_not_zero(path):
    """The NaN of step 4 became a number."""

    def change(lines):
        lines[4]["metrics"]["kl_mean"] = 0.0
        return lines

    copy = changed_lines(path, change)
    assert faults(path, copy) == {"rldk/kl_mean": {"altered": 1}}
    assert "nan is 0.0" in rldk("verify", path, copy).output


def test_a_point_altered_in_mlflows_database_is_named(path, tmp_path):
    """By a hand in a copy of the database, behind MLflow's back."""
    home = home_of(path, "mlflow")
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "copy.db")
    copy = home.replace("mlflow.db", "copy.db")
    assert verify(str(path), copy).agrees
    with sqlite3.connect(tmp_path / "copy.db") as db:
        db.execute("update metrics set value = 0.5 where key = 'rldk/reward_mean' and step = 3")
        db.execute("delete from metrics where key = 'rldk/kl_mean' and step = 5")
    assert faults(path, copy) == {"rldk/reward_mean": {"altered": 1}, "rldk/kl_mean": {"missing": 1}}


def test_a_point_altered_in_a_wandb_file_is_named(path, tmp_path):
    """By a hand that makes the checksum right again."""
    home = Path(home_of(path, "wandb"))
    copy = tmp_path / "elsewhere" / home.name
    shutil.copytree(home, copy)
    (file,) = copy.glob("*.wandb")
    file.write_bytes(altered(file.read_bytes(), b"0.5714285714285714", b"0.9999999999999999"))
    assert faults(path, copy) == {"rldk/reward_mean": {"altered": 1}}


def altered(data, old, new):
    """A `.wandb` file of one block with a value changed: each chunk gets its checksum anew."""
    assert old in data
    data = bytearray(data.replace(old, new))
    pos = 7
    while pos < len(data):
        end = pos + 7 + struct.unpack_from("<H", data, pos + 4)[0]
        struct.pack_into("<I", data, pos, zlib.crc32(data[pos + 6 : end]))
        pos = end
    return bytes(data)


def test_a_row_that_is_twice_in_wandb_is_named(path):
    """A fragment that was copied, as two deliveries of the same events would leave it."""
    home = Path(home_of(path, "wandb"))
    run_id = home.name.split("-", 3)[3]
    shutil.copytree(home, home.with_name(f"offline-run-20990101_000000-{run_id}"))
    counts = faults(path, home)
    assert counts["rldk/reward_mean"] == {"repeated": 5}


def test_what_a_tracker_cannot_keep_is_no_difference(tmp_path, make_event):
    """Up to each bridge's declared losses, and no further."""
    from rldk.journal import Journal

    values = {"huge": 2**60 + 1, "zero": -0.0, "whole": 4.0, "inf": float("inf"), "nan": float("nan")}
    path = tmp_path / "run" / "odd_events.jsonl"
    with Journal(path) as journal:
        for seq, kind in enumerate(("run", "metrics")):
            metrics = values if seq else {}
            journal.append(make_event(kind=kind, seq=seq, time=1_763_847_600.0 + seq, metrics=metrics))
    for tracker in ("mlflow", "wandb"):
        assert verify(str(path), home_of(path, tracker)).agrees


def test_what_cannot_be_read_is_said_in_a_line(path, tmp_path):
    """Exit code 3, and no traceback."""
    done = rldk("verify", path, tmp_path / "nowhere.jsonl")
    assert done.exit_code == 3
    assert "Traceback" not in done.output


def test_two_runs_are_not_compared_at_once(path):
    """A folder of journals is no home of one run; it is told how to choose one."""
    record(path.parent, range(2), run_id="other")
    done = rldk("verify", path, path.parent)
    assert done.exit_code == 3
    assert "it holds 2 runs (other, rosy-run), not 1; choose with --runs ID" in done.output


@pytest.fixture
def table(tmp_path):
    """A CSV file of two runs, which differ in one point."""
    rows = [f"{run},{step},{step / 10}" for step in range(1, 4) for run in ("alpha", "beta")]
    (tmp_path / "two.csv").write_text("\n".join(["run_id,step,loss", *rows[:-1], "beta,3,9.0", ""]))
    return tmp_path / "two.csv"


def test_a_run_of_several_is_chosen(table, tmp_path):
    """Given once, `--runs` is meant for both sources; given twice, for each its own."""
    (tmp_path / "one.csv").write_text("run_id,step,loss\nalpha,1,0.1\nalpha,2,0.2\nalpha,3,0.3\n")
    assert rldk("verify", tmp_path / "one.csv", table, "--runs", "alpha").exit_code == 0
    other = rldk("verify", tmp_path / "one.csv", table, "--runs", "a*", "--runs", "beta", "--json")
    assert other.exit_code == 1, other.output
    assert json.loads(other.stdout)["differences"] == {"loss": {"altered": 1}}
    assert verify(table, table, runs=("alpha", "beta")).counts.keys() == {"loss"}


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["*"], 3, "it holds 2 runs (alpha, beta), not 1"),
        (["nobody"], 2, "--runs='nobody' cannot be used; give all, or ids of these runs: alpha, beta"),
        (["alpha", "beta", "gamma"], 2, "--runs='alpha,beta,gamma' cannot be used"),
    ],
)
def test_a_choice_that_is_none_is_said_in_a_line(table, asked, code, said):
    """With the runs that are there."""
    done = rldk("verify", table, table, *(word for each in asked for word in ("--runs", each)))
    assert (done.exit_code, said in done.output) == (code, True), done.output
