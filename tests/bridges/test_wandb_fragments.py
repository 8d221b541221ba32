"""A run that was opened several times is one run, wherever it is read from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import wandb

from rldk.bridge import Target
from rldk.errors import SinkClosedError, SourceError
from rldk.ingest import ingest_runs
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.offline import WandbFile
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    deliver,
    event,
    forget_wandb,
    go_on,
    plain,
    read_back,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real

EVENTS = [event(i, metrics={"loss": i}) for i in range(1, 10)]


@pytest.fixture
def homes():
    """Where the three parts of a run are, opened one after the other, and within one second."""
    return [Path(go_on(RUN, EVENTS[:end]).source) for end in (3, 6, 9)]


def test_any_folder_is_the_whole_run(homes):
    """Each of its folders stands for all, in the order of their beginning."""
    for home in homes:
        assert [plain(e) for e in read_back(home)] == [plain(e) for e in EVENTS]


def test_a_file_is_only_itself(homes):
    """A file that is named outright is one part."""
    (file,) = homes[1].glob("*.wandb")
    assert WandbAdapter(str(file)).runs() == [str(file)]
    assert [e.time for e in read_back(file)] == [e.time for e in EVENTS[3:6]]


@pytest.mark.usefixtures("homes")
def test_facts_of_all_parts_are_united():
    """Each part's segment is known, and the run ends as its last part did."""
    resumed = event(50, kind="run", seq=10, step=9, model_info={"segment": 1})
    sink = WandbSink.create()
    home = sink.open(resumed)
    sink.close("FAILED", [])
    adapter = WandbAdapter(home.source)
    first, *rest = adapter.events()
    runs = [e for e in rest if e.kind == "run"]
    assert (first.segment, [e.segment for e in runs]) == (0, [1])
    assert rest[-1].model_info["status"] == "FAILED"
    assert adapter.problems == []


def test_the_files_that_are_read(homes):
    """Each part of the run is an input of it, and a file that is named outright the only one."""
    files = [next(home.glob("*.wandb")) for home in homes]
    assert WandbAdapter(str(homes[1])).inputs() == files
    assert WandbAdapter(str(files[1])).inputs() == [files[1]]
    with pytest.raises(SourceError, match=r"no \.wandb file"):
        WandbAdapter(str(homes[0] / "files")).inputs()


def theirs(*parts, **options):
    """Log rows to a run of others, opened once for each part; gives the folder of the last."""
    for rows in parts:
        with wandb.init(id="theirs", **options) as run:
            for row in rows:
                run.log(row)
            folder = run.settings.sync_dir
        forget_wandb()
    return folder


TWICE = "theirs: it was opened 2 times; W&B counts the rows of each from 0, and they are counted on here"


def test_rows_of_all_parts_are_kept():
    """Rows that only W&B has counted, from 0 in each part, have a place each; it is said once."""
    values = [[0, 1, 2], [100, 101, 102]]
    folder = theirs(*([{"loss": value} for value in part] for part in values))
    found = ingest_runs(folder)
    assert found["loss"].tolist() == [*values[0], *values[1]]
    assert found["step"].tolist() == [0, 1, 2, 3, 4, 5]
    adapter = WandbAdapter(folder)
    for _ in range(2):
        rows = [e for e in adapter.events() if e.kind == "metrics"]
        assert [e.metrics["loss"] for e in rows] == [*values[0], *values[1]]
        assert adapter.problems == [TWICE]


def test_the_training_step_of_a_later_part_stays():
    """A part that was resumed at a step of the training is not counted on: its rows are where they say."""
    parts = [[{"loss": at, "train/global_step": at} for at in part] for part in ([1, 2, 3], [3, 4])]
    adapter = WandbAdapter(theirs(*parts))
    assert [e.step for e in adapter.events() if e.kind == "metrics"] == [1, 2, 3, 3, 4]
    assert adapter.problems == []


def test_steps_that_the_script_gave_stay():
    """What was logged with `step=` from a checkpoint on is at that step."""
    for steps in ([0, 10, 20], [10, 20, 30]):
        with wandb.init(id="theirs") as run:
            for step in steps:
                run.log({"loss": step}, step=step)
        forget_wandb()
    adapter = WandbAdapter(run.settings.sync_dir)
    assert [e.step for e in adapter.events() if e.kind == "metrics"] == [0, 10, 20, 10, 20, 30]
    assert adapter.problems == []


def test_a_copy_of_a_part_is_counted_as_the_part():
    """A folder that was copied holds the same rows, not more of them."""
    folder = Path(theirs([{"loss": 0}, {"loss": 1}]))
    shutil.copytree(folder, folder.with_name("offline-run-29990101_000000-theirs"))
    assert [e.step for e in WandbAdapter(str(folder)).events() if e.kind == "metrics"] == [0, 1, 0, 1]


def test_damage_of_each_part_is_told(homes):
    """What is lost of a part is said with its folder."""
    (file,) = homes[1].glob("*.wandb")
    file.write_bytes(file.read_bytes()[:-3])
    adapter = WandbAdapter(str(homes[0]))
    assert len([e for e in adapter.events() if e.kind == "metrics"]) == len(EVENTS)
    assert all(problem.startswith(f"{homes[1].name}/run-rosy-run.wandb: ") for problem in adapter.problems)
    assert len(adapter.problems) == 2


def test_a_folder_of_runs(homes, tmp_path):
    """A folder of run folders names each run once, those that began first first."""
    with wandb.init(id="theirs") as run:
        run.log({"a": 1})
    forget_wandb()
    adapter = WandbAdapter(str(tmp_path / "wandb"))
    assert adapter.can_handle()
    first, theirs = adapter.runs()
    assert first == str(homes[0])
    assert next(WandbAdapter(theirs).events()).run_id == "theirs"
    with pytest.raises(SourceError, match="it holds 2 runs; give one of them, such as "):
        next(adapter.events())


def test_files_that_were_collected(homes, tmp_path):
    """Files of several runs in one folder are a source each."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with wandb.init(id="theirs") as run:
        run.log({"a": 1})
        file = Path(run.settings.sync_file)
    forget_wandb()
    for path in (file, next(homes[0].glob("*.wandb"))):
        shutil.copy(path, shelf)
    assert set(WandbAdapter(str(shelf)).runs()) == {str(path) for path in shelf.iterdir()}


def test_a_target_on_disk_is_gone_on_with(homes, monkeypatch):
    """A run's folder as target: a new part beside it, offline, of the same run and project."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "another")
    forget_wandb()
    more = event(20, metrics={"loss": 20})
    home = go_on(RUN, [*EVENTS, more], target=Target(run_id="rosy-run", source=str(homes[0])))
    assert Path(home.source).parent == homes[0].parent
    (file,) = Path(home.source).glob("*.wandb")
    (old,) = homes[0].glob("*.wandb")
    assert WandbFile(file).run().project == WandbFile(old).run().project
    assert [e.time for e in read_back(home.source)] == [e.time for e in [*EVENTS, more]]


def test_a_target_may_be_a_project(monkeypatch):
    """A project as target is where a new run goes, whatever the environment says."""
    monkeypatch.setenv("WANDB_PROJECT", "another")
    sink = WandbSink.create(Target(project="greenhouse"))
    home = deliver(RUN, EVENTS, sink)
    (file,) = Path(home.source).glob("*.wandb")
    assert WandbFile(file).run().project == "greenhouse"


@pytest.mark.parametrize("source", ["wandb://", "wandb://a/b", "elsewhere/offline-run-x"])
def test_a_target_that_cannot_be_gone_on_with(source, tmp_path):
    """What names no run, or lies where wandb does not write, is refused with what to do."""
    sink = WandbSink.create(Target(source=source if "://" in source else str(tmp_path / source)))
    with pytest.raises(SinkClosedError, match=r"give wandb://|move it into one"):
        sink.open(RUN)


def test_without_a_status_the_run_goes_on():
    """A run that is closed without a status has not ended: it was preempted, in W&B's words."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.send(EVENTS[:3])
    sink.close(None, [])
    adapter = WandbAdapter(home.source)
    assert [e.kind for e in adapter.events()] == ["run", "metrics", "metrics", "metrics"]
    assert adapter.problems == []
