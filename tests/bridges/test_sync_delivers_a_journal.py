"""`rldk sync` brings to a tracker what it lacks of a journal, and nothing twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from rldk.compare import differing_cells
from rldk.cursor import CursorFile
from rldk.ingest import ingest_runs
from rldk.journal import Journal, last_event
from rldk.verify import verify
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401
from tests.bridges._wandb_runs import wandb_offline  # noqa: F401

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


def home_of(path, tracker):
    """Where the tracker has the run."""
    return CursorFile(path, tracker).load().source


def mlflow_run(path):
    """The run as MLflow tells it."""
    from mlflow import MlflowClient

    return MlflowClient().get_run(CursorFile(path, "mlflow").load().tracker_run)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_run_whose_tracker_was_down_arrives_whole(tmp_path, tracker):
    """Every point, and the same table; a second call has nothing to do."""
    path = record(tmp_path / "run", range(5))
    done = rldk("sync", path, "--to", tracker)
    assert done.exit_code == 0, done.output
    assert verify(str(path), home_of(path, tracker)).agrees
    assert not sum(differing_cells(ingest_runs(path), ingest_runs(home_of(path, tracker))).values())
    again = rldk("sync", path, "--to", tracker)
    assert (again.exit_code, "has it already" in again.output) == (0, True)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_resumed_run_keeps_its_segments(tmp_path, tracker):
    """What a later start supersedes is superseded in the tracker's table, too."""
    record(tmp_path / "run", range(6), status=None)
    path = record(tmp_path / "run", range(4, 8))
    assert rldk("sync", path, "--to", tracker).exit_code == 0
    for attempts in ("latest", "all"):
        mine = ingest_runs(path, attempts=attempts)
        theirs = ingest_runs(home_of(path, tracker), attempts=attempts)
        assert len(mine) == len(theirs)
    assert not sum(differing_cells(ingest_runs(path), ingest_runs(home_of(path, tracker))).values())


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_only_what_is_new_is_sent(tmp_path, tracker):
    """A run that went on since the last call is gone on with."""
    path = record(tmp_path / "run", range(5))
    assert rldk("sync", path, "--to", tracker).exit_code == 0
    record(tmp_path / "run", range(5, 8))
    done = rldk("sync", path, "--to", tracker)
    assert "5 events sent" in done.output  # the start, three steps, the end
    assert verify(str(path), home_of(path, tracker)).agrees


def test_parameters_tags_status_and_files_go_along(tmp_path):
    """What the tracker would have had, had it been there."""
    path = record(tmp_path / "run", range(3), status="FAILED")
    (path.parent / "rosy-run_metrics.csv").write_text("step\n1\n")
    (path.parent / "another-run_events.jsonl").write_text("{}\n")
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    run = mlflow_run(path)
    assert run.data.params["args/beta"] == "0.04"
    assert run.data.tags["rldk.run_id"] == "rosy-run"
    assert run.info.status == "FAILED"
    from mlflow import MlflowClient

    files = {file.path for file in MlflowClient().list_artifacts(run.info.run_id, "rldk")}
    assert {"rldk/rosy-run_events.jsonl", "rldk/rosy-run_metrics.csv"} <= files
    assert not any("another-run" in file or "cursor" in file for file in files)


def test_it_goes_into_the_run_that_the_training_had_open(tmp_path):
    """The journal tells which tracker run it belongs to, though nothing ever reached it."""
    from mlflow import MlflowClient

    theirs = MlflowClient().create_run("0").info.run_id
    path = record(tmp_path / "run", range(3), tracker_runs={"mlflow": theirs})
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    assert CursorFile(path, "mlflow").load().tracker_run == theirs
    assert mlflow_run(path).info.status == "FINISHED"


def test_a_new_run_goes_where_it_is_told(tmp_path):
    """--into names the experiment."""
    path = record(tmp_path / "run", range(3))
    assert rldk("sync", path, "--to", "mlflow", "--into", "my experiment").exit_code == 0
    from mlflow import MlflowClient

    experiment = MlflowClient().get_experiment_by_name("my experiment")
    assert mlflow_run(path).info.experiment_id == experiment.experiment_id


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_dry_run_writes_nothing(tmp_path, tracker):
    """It says what would be sent, and what the tracker cannot keep."""
    path = record(tmp_path / "run", range(3))
    before = sorted(tmp_path.rglob("*"))
    told = rldk("sync", path, "--to", tracker, "--dry-run")
    assert told.exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "rosy-run" in told.output
    assert "5 events" in told.output
    assert "Negative zero reads back as zero" in told.output


def test_a_run_that_is_being_written_is_followed_to_its_end(tmp_path):
    """Points arrive while it goes on; the end of the training ends the command, too."""
    path = record(tmp_path / "run", range(3), status=None)
    following = threading.Thread(target=rldk, args=("sync", path, "--to", "mlflow", "--follow"))
    with Journal(path) as journal:
        following.start()
        _wait_for(lambda: _delivered_until(path) == journal.last.time)
        last = journal.last
        later = {"seq": last.seq + 1, "time": last.time + 1, "step": 9, "metrics": {"loss": 1.5}}
        journal.append(msgspec.structs.replace(last, **later))
        _wait_for(lambda: _delivered_until(path) == journal.last.time)
        assert mlflow_run(path).info.status == "RUNNING"
        ended = {"kind": "end", "seq": last.seq + 2, "time": last.time + 2, "metrics": {}}
        ended["model_info"] = last.model_info | {"status": "FINISHED"}
        journal.append(msgspec.structs.replace(last, **ended))
    following.join(60)
    assert not following.is_alive()
    assert mlflow_run(path).info.status == "FINISHED"
    assert verify(str(path), home_of(path, "mlflow")).agrees


def _delivered_until(path):
    cursor = CursorFile(path, "mlflow").load()
    return cursor and cursor.at


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_still_goes_on_is_left_running(tmp_path):
    """Without --follow what is there is sent, and the tracker run is not ended."""
    path = record(tmp_path / "run", range(3), status=None)
    with Journal(path):
        assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    assert mlflow_run(path).info.status == "RUNNING"


def test_a_run_that_died_without_a_word_is_killed(tmp_path):
    """Nobody writes the journal and it has no end: the tracker does not show it running for ever."""
    path = record(tmp_path / "run", range(3), status=None)
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    assert mlflow_run(path).info.status == "KILLED"


def test_many_runs_go_at_once_and_those_done_are_passed_over(tmp_path):
    """A folder of journals; one that cannot be read stops no other and sets the exit code."""
    for name in ("one", "two"):
        record(tmp_path / "runs", range(3), run_id=name)
    first = rldk("sync", tmp_path / "runs", "--to", "mlflow")
    assert (first.exit_code, first.output.count("5 events sent")) == (0, 2)
    record(tmp_path / "runs", range(3), run_id="three")
    (tmp_path / "runs" / "broken_events.jsonl").write_text("garbage\n")
    second = rldk("sync", tmp_path / "runs", "--to", "mlflow")
    assert second.output.count("has it already") == 2
    assert second.output.count("5 events sent") == 1
    assert "broken_events.jsonl" in second.output
    assert second.exit_code == 3


def test_a_tracker_that_is_down_is_told_and_nothing_is_lost(tmp_path, monkeypatch, free_port):
    """The exit code says that something waits; the next call delivers it."""
    path = record(tmp_path / "run", range(3))
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
        told = rldk("sync", path, "--to", "mlflow", "--patience", "0.5")
    assert told.exit_code == 1
    assert "5 waiting" in told.output
    assert "open failed" in told.output
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    assert verify(str(path), home_of(path, "mlflow")).agrees


def test_a_file_that_is_no_journal_of_ours_is_delivered_from_a_copy(tmp_path):
    """The guide's seven fields are enough; times and numbers are given to what has none."""
    line = (
        '{"step": %d, "wall_time": %d.5, "metrics": {"reward_mean": %d.25}, "rng": {}, "data_slice": {},'
        ' "model_info": {"run_id": "plain"}, "notes": []}\n'
    )
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(line % (i, i, i) for i in range(4)))
    before = path.read_bytes()
    done = rldk("sync", path, "--to", "mlflow")
    assert done.exit_code == 0, done.output
    assert path.read_bytes() == before
    (copy,) = Path(tmp_path / "cache").rglob("plain_events.jsonl")
    assert last_event(copy).seq == 4
    table = ingest_runs(home_of(copy, "mlflow"))
    assert table["reward_mean"].tolist() == [0.25, 1.25, 2.25, 3.25]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere.jsonl", "--to", "mlflow"), 3, "there is no such file"),
        (("{journal}", "--to", "nobody"), 2, "installed: mlflow, wandb"),
        (("{folder}", "--to", "mlflow", "--follow"), 2, "one run, not 2"),
        (("{journal}", "--to", "mlflow", "--adapter", "nobody"), 2, "no adapter named"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path, words, code, said):
    """With what to do instead, and no traceback."""
    path = record(tmp_path / "runs", range(2))
    record(tmp_path / "runs", range(2), run_id="other")
    done = rldk("sync", *(word.format(journal=path, folder=path.parent) for word in words))
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert "Traceback" not in done.output
