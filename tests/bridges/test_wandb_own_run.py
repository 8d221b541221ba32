"""A run that the sink opens itself is bounded, quiet, and nobody else's business."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import wandb

from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    deliver,
    event,
    protobuf_records,
    read_back,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

EVENTS = [event(i, metrics={"loss": i}) for i in range(1, 4)]


def run_of(tmp_path):
    """What the one file below tmp_path says of its run."""
    return WandbFile(wandb_file(tmp_path)).run()


def test_it_is_opened_off_the_main_thread(tmp_path):
    """All of it works on a delivery thread, and wandb.run does not change for the script."""
    sink, seen = WandbSink.create(), []

    def delivery():
        sink.open(RUN)
        seen.append(wandb.run)
        sink.send(EVENTS)
        sink.close("FINISHED", [])

    thread = threading.Thread(target=delivery)
    thread.start()
    thread.join()
    assert seen == [None]
    assert len(read_back(wandb_file(tmp_path))) == 3


def test_its_home_is_its_folder(tmp_path):
    """Offline, the source is the run's folder and there is no page; the id is RLDK's."""
    sink = WandbSink.create()
    home = deliver(RUN, EVENTS, sink)
    assert Path(home.source).is_absolute()
    assert Path(home.source) == wandb_file(tmp_path).parent
    assert (home.tracker, home.run_id, sink.tracker_run_id, home.url) == ("wandb", *["rosy-run"] * 2, None)


def test_it_says_nothing(capfd, monkeypatch):
    """Nothing is printed, by us or by W&B."""
    monkeypatch.delenv("WANDB_SILENT")
    deliver(RUN, EVENTS)
    assert capfd.readouterr() == ("", "")


PRINTING = """
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import RUN
sink = WandbSink.create()
sink.open(RUN)
print("what the script prints")
sink.close("FINISHED", [])
"""


def test_it_keeps_nothing_that_the_script_prints(tmp_path):
    """The run holds what RLDK tells it, and not the console of the training script."""
    done = subprocess.run([sys.executable, "-c", PRINTING], capture_output=True, check=True)
    assert done.stdout == b"what the script prints\n"
    assert done.stdout.strip() not in wandb_file(tmp_path).read_bytes()


def test_it_can_be_read_at_once():
    """When close returns, all is in the file; wandb's own finish returns before that."""
    for i in range(10):
        run = event(0, kind="run", model_info={"run_id": f"run-{i}"})
        assert len(read_back(deliver(run, EVENTS).source)) == 3


@pytest.mark.parametrize(("status", "exit_code"), [("FINISHED", 0), ("FAILED", 1), ("KILLED", 1)])
def test_it_ends_as_the_training_did(tmp_path, status, exit_code):
    """Only a training that finished leaves a run that finished."""
    sink = WandbSink.create()
    sink.open(RUN)
    sink.close(status, [])
    assert run_of(tmp_path).exit_code == exit_code


def test_it_honours_the_environment(tmp_path, monkeypatch):
    """Project and name are what WANDB_PROJECT and WANDB_NAME say."""
    monkeypatch.setenv("WANDB_PROJECT", "greenhouse")
    monkeypatch.setenv("WANDB_NAME", "tulip")
    deliver(RUN, EVENTS)
    assert (run_of(tmp_path).project, run_of(tmp_path).name) == ("greenhouse", "tulip")


def test_its_name_is_its_id_otherwise(tmp_path):
    """Without WANDB_NAME the run is shown by its RLDK id."""
    deliver(RUN, EVENTS)
    assert run_of(tmp_path).name == "rosy-run"


@pytest.mark.parametrize(("report_to", "kept"), [(["mlflow"], True), ([], True), (["wandb"], False)])
def test_arguments_are_kept_once(tmp_path, report_to, kept):
    """The trainer's arguments go into the config, unless transformers has put them there."""
    args = {"learning_rate": 1e-6, "nested": {"a": [1, None]}}
    deliver(event(0, kind="run", model_info={"args": args, "report_to": report_to}), EVENTS)
    assert run_of(tmp_path).config.get("rldk/args") == (args if kept else None)


def test_files_become_one_artifact(tmp_path):
    """The files are logged as one artifact, named for the run."""
    report, journal = tmp_path / "report.html", tmp_path / "run.jsonl"
    report.write_text("<p>")
    journal.write_text("{}")
    sink = WandbSink.create()
    sink.open(event(0, kind="run", model_info={"run_id": "a run (2)"}))
    sink.close("FINISHED", [report, journal])
    (artifact,) = (r.artifact for r in protobuf_records(wandb_file(tmp_path)) if r.HasField("artifact"))
    assert (artifact.name, artifact.type) == ("rldk-a-run--2-", "rldk")
    assert {content.path for content in artifact.manifest.contents} == {"report.html", "run.jsonl"}


def test_the_run_ends_even_if_a_file_cannot_be_sent(tmp_path):
    """A file that cannot be read does not leave the run open."""
    sink = WandbSink.create()
    sink.open(RUN)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"(?i)not a file"):
        sink.close("FINISHED", [tmp_path / "pipe"])
    assert run_of(tmp_path).exit_code == 0
