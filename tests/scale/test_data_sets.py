"""Many runs become a Parquet data set, which an interruption leaves whole and the same call completes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rldk import dataset
from rldk.adapters.trl import TRLAdapter
from rldk.cli import app
from rldk.dataset import write_dataset
from rldk.errors import MissingDependencyError, SettingError, SourceError, TargetError
from rldk.export import from_arrow
from rldk.ingest import ingest_runs
from rldk.sources import Found, RunSource


def read(folder, **options):
    """Read a data set as any tool does, but with NaN and missing apart."""
    return from_arrow(pq.read_table(str(folder), **options))


def assert_same(one, other):
    """The same dtypes and values, whatever the order of the runs; NaN and missing are two things."""
    key = ["run_id", "step", "phase"]
    left, right = (each.sort_values(key).reset_index(drop=True) for each in (one, other))
    pd.testing.assert_frame_equal(left, right)
    assert (left.isna() == right.isna()).all(axis=None)


def parts(folder):
    """The files, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_the_data_set_is_the_table(tmp_path, write_run):
    """All files have the same columns, though some runs have metrics that others lack."""
    for number in range(6):
        write_run(tmp_path / "in", f"r{number}", extra=["late"] if number == 4 else [])
    done = write_dataset(tmp_path / "in", tmp_path / "out")
    assert (len(done.written), done.kept, done.failed, done.rows) == (6, [], {}, 36)
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))
    assert len({pq.read_schema(path).remove_metadata() for path in (tmp_path / "out").glob("*.parquet")}) == 1


def test_a_second_call_writes_what_is_new_or_changed_alone(tmp_path, write_run):
    """And gives what is there the columns that have come."""
    first, second = write_run(tmp_path / "in", "a"), write_run(tmp_path / "in", "b")
    write_dataset(tmp_path / "in", tmp_path / "out")
    before = parts(tmp_path / "out")
    again = write_dataset([first, second], tmp_path / "out")
    assert (again.written, len(again.kept), parts(tmp_path / "out")) == ([], 2, before)
    with first.open("ab") as file:
        file.write(first.read_bytes().splitlines(keepends=True)[-1])
    write_run(tmp_path / "in", "c", extra=["late"])
    more = write_dataset(tmp_path / "in", tmp_path / "out")
    assert ([path.rsplit("/", 1)[-1] for path in more.written], len(more.kept)) == (
        ["a_events.jsonl", "c_events.jsonl"],
        1,
    )
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))
    assert len(write_dataset(tmp_path / "in", tmp_path / "out", again=True).written) == 3


def test_other_settings_are_another_table(tmp_path, write_log):
    """A field map that was forgotten can be given with the next call."""
    log = write_log(tmp_path / "log.jsonl", mine=1.0)
    write_dataset(log, tmp_path / "out")
    done = write_dataset(log, tmp_path / "out", field_map={"mine": "reward_std"})
    assert len(done.written) == 1
    assert read(tmp_path / "out")["reward_std"].tolist() == [1.0, 1.0, 1.0]


def test_the_folder_from_which_it_is_called_does_not_matter(tmp_path, write_run, monkeypatch):
    """A source is the same by any of its names."""
    write_run(tmp_path / "in", "a")
    write_dataset(tmp_path / "in" / "a_events.jsonl", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "in")
    assert len(write_dataset("a_events.jsonl", "../out").kept) == 1


def test_runs_of_others_that_are_called_alike_keep_apart(tmp_path, write_log):
    """In one call or in several."""
    one, two, three = (
        write_log(tmp_path / name / "out.jsonl", rows) for name, rows in zip("xyz", (2, 3, 4), strict=True)
    )
    write_dataset([one, two], tmp_path / "out")
    write_dataset([one, two, three], tmp_path / "out")
    counts = read(tmp_path / "out")["run_id"].value_counts()
    assert sorted(counts.index) == ["out", "out-2", "out-3"]
    assert sorted(counts) == [2, 3, 4]
    assert write_dataset([one, two, three], tmp_path / "out").written == []
    assert read(tmp_path / "out")["run_id"].value_counts().to_dict() == counts.to_dict()


def test_one_source_that_cannot_be_read_stops_no_other(tmp_path, write_run):
    """It is told; where there is no other, it is the error."""
    write_run(tmp_path, "good")
    (tmp_path / "bad_events.jsonl").write_text("garbage\n")
    done = write_dataset(tmp_path, tmp_path / "out")
    assert (len(done.written), ["bad_events" in source for source in done.failed]) == (1, [True])
    with pytest.raises(SourceError, match="bad_events"):
        write_dataset(tmp_path / "bad_events.jsonl", tmp_path / "other")


def test_a_damaged_file_of_the_data_set_is_written_anew(tmp_path, write_run):
    """As a disk that was full may leave it."""
    write_run(tmp_path / "in", "a")
    write_dataset(tmp_path / "in", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    assert len(write_dataset(tmp_path / "in", tmp_path / "out").written) == 1
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


class Lacking(TRLAdapter):
    """Needs a library that is not there."""

    def events(self, **_):
        """Cannot be read."""
        raise MissingDependencyError("it", "nosuch", "nosuch")
        yield


class Served(TRLAdapter):
    """A run on a server, as far as anybody can tell."""

    def inputs(self):
        """None of this machine."""
        return []


class Fragmented(TRLAdapter):
    """A run with a further file in a folder beside it."""

    def __init__(self, source):
        super().__init__(source)
        self.folder = Path(source).parent.parent

    def inputs(self):
        """All of it."""
        return sorted(self.folder.rglob("*.jsonl"))


@pytest.fixture
def sources(monkeypatch):
    """Have adapters of the test's own read the sources."""

    def give(*runs):
        listed = Found([RunSource(kind, str(path)) for kind, path in runs], [])
        monkeypatch.setattr(dataset, "listed", lambda *_: Found(list(listed.runs), []))

    return give


def test_a_file_beside_the_source_is_part_of_it(tmp_path, write_run, sources):
    """Where its adapter names the files that it reads."""
    path = write_run(tmp_path / "in" / "one", "a")
    sources((Fragmented, path))
    write_dataset(path, tmp_path / "out")
    assert len(write_dataset(path, tmp_path / "out").kept) == 1
    write_run(tmp_path / "in" / "two", "a", start=5)
    assert len(write_dataset(path, tmp_path / "out").written) == 1


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_run_of_a_tracker_is_read_until_it_has_ended(tmp_path, write_run, sources, has_ended):
    """Afterwards again when that is asked for alone."""
    path = write_run(tmp_path / "in", "a")
    if has_ended:
        last = json.loads(path.read_bytes().splitlines()[-1])
        with path.open("a") as file:
            file.write(json.dumps(last | {"kind": "end", "seq": 99, "metrics": {}}) + "\n")
    sources((Served, path))
    write_dataset(path, tmp_path / "out")
    assert len(write_dataset(path, tmp_path / "out").kept) == has_ended
    assert len(write_dataset(path, tmp_path / "out", again=True).written) == 1


def test_a_source_is_the_same_by_any_path(tmp_path, write_run, monkeypatch):
    """A relative one with dots, and a link."""
    path = write_run(tmp_path / "in", "a")
    write_dataset(path, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path / "other")
    for same in ("../in/../in/a_events.jsonl", "link.jsonl"):
        assert len(write_dataset(same, tmp_path / "out").kept) == 1
    assert len(parts(tmp_path / "out")) == 1


def test_a_source_with_a_pattern_is_the_files_that_it_names(tmp_path, monkeypatch):
    """As those of `wandb_history`."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (0, 1):
        (folder / f"e_p_[r]_{number}.runhistory.parquet").touch()
    (folder / "e_p_x_0.runhistory.parquet").touch()
    monkeypatch.chdir(folder)
    here, there = (
        RunSource(TRLAdapter, path)
        for path in ("e_p_[r]_*.runhistory.parquet", str(folder / "e_p_[r]_*.runhistory.parquet"))
    )
    assert here.place() == there.place() == there.source
    assert len(here.files()) == len(there.files()) == 2


def test_the_name_of_a_real_run_is_given_to_no_other(tmp_path, write_log, write_run):
    """Neither that of a log nor that of a run of RLDK, which comes later."""
    logs = [write_log(tmp_path / name / "out.jsonl", rows) for name, rows in (("x", 2), ("y", 3))]
    logs.append(write_log(tmp_path / "z" / "out-2.jsonl", 4))
    done = write_dataset(logs, tmp_path / "out")
    counts = read(tmp_path / "out")["run_id"].value_counts().to_dict()
    assert counts.keys() == {"out", "out-2", "out-3"}
    assert counts["out-2"] == 4
    assert [problem for problem in done.problems if "out-3" in problem]
    assert [problem for problem in write_dataset(logs, tmp_path / "out").problems if "out-3" in problem]
    own = write_run(tmp_path / "own", "out-2", steps=5)
    write_dataset([*logs, own], tmp_path / "out")
    assert read(tmp_path / "out")["run_id"].value_counts().to_dict() == {
        **counts,
        "out-2": 6,
        "out-2-2": 4,
    }


def test_a_name_that_was_given_stays(tmp_path, write_log):
    """Whatever comes later, and when the log has grown."""
    one, two = (write_log(tmp_path / name / "out.jsonl", rows) for name, rows in (("x", 2), ("y", 3)))
    write_dataset([one], tmp_path / "out")
    write_dataset([one, two], tmp_path / "out")
    assert read(tmp_path / "out")["run_id"].value_counts().to_dict() == {"out": 2, "out-2": 3}
    late = write_log(tmp_path / "z" / "out-2.jsonl", 5)
    write_log(two, 7)
    write_dataset([late, one, two], tmp_path / "out")
    assert read(tmp_path / "out")["run_id"].value_counts().to_dict() == {"out": 2, "out-2": 7, "out-2-2": 5}


def test_no_files_of_a_failed_write_are_left(tmp_path, write_run, monkeypatch):
    """As where the disk is full."""
    path = write_run(tmp_path / "in", "a")

    def full(self, _):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TargetError, match="No space left"):
        write_dataset(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_two_calls_at_a_time_disturb_each_other_not(tmp_path, write_run, monkeypatch):
    """Each writes files of its own, which take their place in any order."""
    path, replace = write_run(tmp_path / "in", "a"), Path.replace

    def late(self, target):
        monkeypatch.setattr(Path, "replace", replace)
        write_dataset(path, tmp_path / "out")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    assert len(write_dataset(path, tmp_path / "out").written) == 1
    assert_same(read(tmp_path / "out"), ingest_runs(path))


def test_what_another_call_writes_meanwhile_stays(tmp_path, write_run, monkeypatch):
    """Evening out the columns brings no older rows back."""
    first, second = write_run(tmp_path / "in", "a"), tmp_path / "in" / "b_events.jsonl"
    write_dataset(first, tmp_path / "out")
    write_run(tmp_path / "in", "b", extra=["late"])
    united = dataset._united

    def slow(table, columns, renamed):
        if "late" in columns and "late" not in table.column_names:
            monkeypatch.setattr(dataset, "_united", united)
            write_run(tmp_path / "new", "a", steps=9)
            shutil.copy(tmp_path / "new" / "a_events.jsonl", first)
            write_dataset(first, tmp_path / "out")
        return united(table, columns, renamed)

    monkeypatch.setattr(dataset, "_united", slow)
    write_dataset(second, tmp_path / "out")
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


@pytest.mark.parametrize("content", [b"", b"PAR1 garbage", b"PAR1" + b"\0" * 40 + b"\x04\0\0\0PAR1", None])
def test_a_foreign_file_in_the_data_set_is_left_and_told(tmp_path, write_run, content):
    """Damaged or whole, it is none of RLDK's."""
    write_run(tmp_path / "in", "a")
    write_dataset(tmp_path / "in", tmp_path / "out")
    foreign = tmp_path / "out" / "part-0.parquet"
    if content is None:
        pq.write_table(pa.table({"theirs": [1]}), foreign)
    else:
        foreign.write_bytes(content)
    before = foreign.read_bytes()
    write_run(tmp_path / "in", "b", extra=["late"])
    done = write_dataset(tmp_path / "in", tmp_path / "out")
    assert (len(done.written), [problem for problem in done.problems if "part-0.parquet" in problem]) == (
        1,
        done.problems,
    )
    assert (len(done.problems), foreign.read_bytes()) == (1, before)
    foreign.unlink()
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


def test_all_attempts_have_their_segment_behind_the_fixed_columns(tmp_path, write_run):
    """Also in files of calls that did not ask for it."""
    one, two = write_run(tmp_path / "in", "a", extra=["early"]), write_run(tmp_path / "in", "b")
    write_dataset(one, tmp_path / "out")
    write_dataset(two, tmp_path / "out", attempts="all")
    schemas = [pq.read_schema(path).remove_metadata() for path in (tmp_path / "out").glob("*.parquet")]
    assert schemas[0] == schemas[1]
    assert schemas[0].names == list(ingest_runs(tmp_path / "in", attempts="all").columns)
    assert schemas[0].field("segment").type == pa.int64()


def test_a_library_that_one_source_needs_stops_no_other(tmp_path, write_run, sources):
    """It is told; where there is no other, it is the error."""
    path = write_run(tmp_path / "in", "a")
    sources((Lacking, "x"), (TRLAdapter, path))
    done = write_dataset(path, tmp_path / "out")
    assert (len(done.written), ["nosuch" in reason for reason in done.failed.values()]) == (1, [True])
    sources((Lacking, "x"))
    with pytest.raises(MissingDependencyError, match="nosuch"):
        write_dataset(path, tmp_path / "other")


def test_problems_of_what_is_up_to_date_are_told_again(tmp_path, write_log):
    """Nobody has mended them."""
    log = write_log(tmp_path / "log.jsonl", mine=1.0)
    log.write_text(log.read_text() + "garbage\n")
    first, second = (write_dataset(log, tmp_path / "out") for _ in range(2))
    assert (len(second.kept), second.problems) == (1, first.problems)
    assert first.problems


def test_another_version_reads_anew(tmp_path, write_run, monkeypatch):
    """It may read better."""
    path = write_run(tmp_path / "in", "a")
    write_dataset(path, tmp_path / "out")
    monkeypatch.setattr(dataset, "__version__", "another")
    assert len(write_dataset(path, tmp_path / "out").written) == 1


@pytest.mark.real
def test_a_killed_call_is_completed_by_the_next(tmp_path, write_run):
    """What was written is whole, and is not written again."""
    for number in range(60):
        write_run(tmp_path / "in", f"r{number:02}", steps=200)
    command = [sys.executable, "-m", "rldk", "ingest", str(tmp_path / "in"), "-o", f"{tmp_path}/out/"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ) as killed:
        deadline = time.monotonic() + 60
        while len(parts(tmp_path / "out")) < 3 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    before = parts(tmp_path / "out")
    assert 3 <= len(before) < 60
    for name in before:
        pq.read_table(tmp_path / "out" / name)
    done = write_dataset(tmp_path / "in", tmp_path / "out")
    assert (len(done.kept), len(done.written)) == (len(before), 60 - len(before))
    assert before.items() <= parts(tmp_path / "out").items()
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


@pytest.mark.real
def test_an_object_store_and_a_cluster(tmp_path, write_run, s3, cluster):
    """The workers write into S3; a second call writes nothing."""
    import fsspec

    for number in range(20):
        write_run(tmp_path, f"run-{number:03}", extra=["late"] if number == 10 else [])
    options = {"storage_options": s3, "client": cluster}
    done = write_dataset(tmp_path, "s3://runs/all", **options)
    assert (len(done.written), done.failed) == (20, {})
    assert len(write_dataset(tmp_path, "s3://runs/all", **options).kept) == 20
    fs = fsspec.filesystem("s3", **s3)
    assert_same(read("runs/all", filesystem=fs), ingest_runs(tmp_path))
    assert not [name for name in fs.ls("runs/all") if b"s3cr3t" in fs.cat(name)]


@pytest.mark.real
def test_a_cluster_writes_two_hundred_runs(tmp_path, write_run, cluster):
    """Its workers share a folder, and a source that cannot be read stops none of them."""
    for number in range(200):
        write_run(tmp_path / "in", f"run-{number:03}", extra=["late"] if number == 100 else [])
    (tmp_path / "in" / "bad_events.jsonl").write_text("garbage\n")
    done = write_dataset(tmp_path / "in", tmp_path / "out", client=cluster)
    assert (len(done.written), len(done.failed)) == (200, 1)
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


@pytest.mark.real
def test_a_store_that_is_not_there(tmp_path, write_run, free_port):
    """The error names the place, not the key."""
    path = write_run(tmp_path, "r")
    nowhere = {"endpoint_url": f"http://127.0.0.1:{free_port}"}
    options = {
        "key": "k",
        "secret": "s3cr3t-value",
        "client_kwargs": nowhere,
        "config_kwargs": {"retries": {"max_attempts": 1}},
    }
    with pytest.raises(TargetError, match="s3://runs/all") as caught:
        write_dataset(path, "s3://runs/all", storage_options=options)
    assert "s3cr3t" not in str(caught.value)


def test_misuse(tmp_path, write_run):
    """A file where a folder should be, a file system that nobody knows, attempts that are none."""
    path = write_run(tmp_path, "r")
    with pytest.raises(TargetError, match="r_events"):
        write_dataset(path, path)
    with pytest.raises(TargetError, match="nosuch"):
        write_dataset(path, "nosuch://bucket/x")
    with pytest.raises(SettingError, match="latest or all"):
        write_dataset(path, tmp_path / "out", attempts="some")


@pytest.mark.real
def test_the_command_uses_a_cluster(tmp_path, write_run, cluster):
    """By the address of its scheduler."""
    write_run(tmp_path / "in", "a")
    address = cluster.scheduler.address
    words = ["ingest", str(tmp_path / "in"), "--output", f"{tmp_path}/out/", "--scheduler", address]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "1 files with 6 rows written" in " ".join(done.output.split())
    assert_same(read(tmp_path / "out"), ingest_runs(tmp_path / "in"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "{out}/", "--runs", "a"), "without a data set"),
        (("-o", "{out}/", "--join"), "without a data set"),
        (("--again",), "a data set as --output"),
        (("-o", "{out}.csv", "--scheduler", "tcp://x:1"), "a data set as --output"),
        (("-o", "s3://bucket/x.csv"), "a file on this machine"),
        (("-o", "{out}/", "--scheduler", "tcp://127.0.0.1:9"), "one that answers"),
        (("-o", "{out}/", "--scheduler", "nonsense"), "no host or no port"),
    ],
)
def test_what_does_not_go_together_is_said(tmp_path, write_run, words, said):
    """In a line, with what to give instead."""
    path = write_run(tmp_path, "a")
    given = [word.format(out=tmp_path / "out") for word in words]
    done = CliRunner().invoke(app, ["ingest", str(path), *given])
    assert (done.exit_code, said in " ".join(done.output.split())) == (2, True), done.output


def test_runs_are_picked_by_id(tmp_path, write_run):
    """With wildcards; none that is there is an error that lists them."""
    for run_id in ("grpo-1", "grpo-2", "ppo-1"):
        write_run(tmp_path, run_id)
    done = CliRunner().invoke(app, ["ingest", str(tmp_path), "--runs", "grpo-*", "--format", "csv"])
    assert {line.split(",")[14] for line in done.stdout.splitlines()[1:]} == {"grpo-1", "grpo-2"}
    done = CliRunner().invoke(app, ["ingest", str(tmp_path), "--runs", "all", "--format", "csv"])
    assert len(done.stdout.splitlines()) == 19
    done = CliRunner().invoke(app, ["ingest", str(tmp_path), "--runs", "none"])
    assert (done.exit_code, "grpo-1, grpo-2, ppo-1" in done.output) == (2, True)
