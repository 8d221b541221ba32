"""The journal and what was made of it are an artifact of the W&B run: once, bounded, a version a start."""

from __future__ import annotations

import pytest
import wandb

from rldk_wandb import files
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401  # the first for each test
from tests.bridges._wandb_runs import (
    RUN,
    event,
    finished,
    forget_wandb,
    protobuf_records,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real


@pytest.fixture
def outputs(tmp_path):
    """A journal, and the page that was made of it."""
    (tmp_path / "rosy-run_events.jsonl").write_text("{}\n" * 100)
    (tmp_path / "rosy-run_report.html").write_text("<p>All is well</p>")
    return [tmp_path / "rosy-run_events.jsonl", tmp_path / "rosy-run_report.html"]


def artifacts(folder):
    """What wandb's own classes read in the run's file: each artifact's name, type, text and files."""
    (file,) = folder.glob("run-*.wandb")
    logged = [record.artifact for record in protobuf_records(file) if record.HasField("artifact")]
    return [
        (one.name, one.type, one.description, sorted(entry.path for entry in one.manifest.contents))
        for one in logged
    ]


def closed(*paths, times=1):
    """Attach to a run of somebody else, close as often, and have them finish it; the run's folder."""
    run = wandb.init(id="rosy-run", resume="allow")
    sink = WandbSink.attach()
    sink.open(RUN)
    sink.send([event(1, step=1, metrics={"loss": 0.5})])
    for _ in range(times):
        sink.close("FINISHED", paths)
    run.log({"theirs": 1})  # it is open still
    return finished(run)


def test_it_is_one_artifact_of_the_run(outputs):
    """Named after the run, with a line that says what it is; the run stays its owner's to finish."""
    assert artifacts(closed(*outputs)) == [
        (
            "rldk-rosy-run",
            "rldk",
            "What RLDK recorded of this run: the journal, and what was made of it.",
            ["rosy-run_events.jsonl", "rosy-run_report.html"],
        )
    ]


def test_a_close_that_is_repeated_logs_it_once(outputs):
    """As after a failure later in the same close."""
    assert len(artifacts(closed(*outputs, times=2))) == 1


def test_a_resumed_run_has_a_next_version(outputs):
    """The name stays, so that W&B makes a version of it; the reader takes the last."""
    first = closed(*outputs)
    forget_wandb()
    outputs[0].write_text("{}\n" * 200)
    second = closed(*outputs)
    assert [name for folder in (first, second) for name, *_ in artifacts(folder)] == ["rldk-rosy-run"] * 2
    into = second.parent / "into"
    into.mkdir()
    (journal,) = [path for path in WandbAdapter(str(second)).files(into) if path.suffix == ".jsonl"]
    assert journal.read_text() == "{}\n" * 200


def test_what_is_too_large_stays_and_is_named(outputs, monkeypatch, caplog):
    """W&B copies an artifact on the disk first; the small files go along all the same."""
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    ((*_, held),) = artifacts(closed(*outputs))
    assert held == ["rosy-run_report.html"]
    assert f"{outputs[0]} (0 MiB) is not in the artifact of run rosy-run" in caplog.text


def test_without_files_there_is_no_artifact():
    """Nor is an empty one made."""
    assert artifacts(closed()) == []


def test_sync_brings_it_later_and_once(tmp_path):
    """A run that W&B never saw has it after `rldk sync`; a second call adds nothing, new steps a version."""
    path = record(tmp_path / "run", range(3))
    for later in (None, range(3, 5)):
        if later:
            record(tmp_path / "run", later)
        for _ in range(2):
            assert rldk("sync", path, "--to", "wandb").exit_code == 0
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    logged = [one for folder in folders for one in artifacts(folder)]
    assert [(name, held) for name, *_, held in logged] == [("rldk-rosy-run", [path.name])] * 2
