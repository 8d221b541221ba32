"""Files that go with a run come back, files as files and folders as folders."""

from __future__ import annotations

import pytest
import wandb

from rldk.errors import SourceError
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import (
    RUN,
    forget_wandb,
    go_on,
    wandb_file,
    wandb_offline,  # noqa: F401  # for each test
)

pytestmark = pytest.mark.real


@pytest.fixture
def paths(tmp_path):
    """A file, and a folder with two."""
    (tmp_path / "mine" / "model" / "deep").mkdir(parents=True)
    for name in ("report.html", "model/a.bin", "model/deep/b.bin"):
        (tmp_path / "mine" / name).write_text(name)
    return [tmp_path / "mine" / "report.html", tmp_path / "mine" / "model"]


@pytest.fixture
def into(tmp_path):
    """An empty folder."""
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def tree(paths):
    """What some files and folders hold."""
    files = [(path, file) for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return {str(f.relative_to(p.parent)): f.read_bytes() for p, f in files if f.is_file()}


def test_ours_come_back(paths, into):
    """Files and folders that the sink was given."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.close("FINISHED", paths)
    adapter = WandbAdapter(home.source)
    found = [path for path in adapter.files(into) if path.name != "wandb-files"]
    assert adapter.problems == []
    assert tree(found) == tree(paths)


def test_theirs_come_in_folders(tmp_path, paths, into):
    """W&B's own files come in one folder, and each artifact in a folder of its name, its latest version."""
    with wandb.init(id="theirs") as run:
        run.log({"t": wandb.Table(columns=["q"], data=[[1]])})
        for name in ("old", "new"):
            artifact = wandb.Artifact("weights", type="model")
            paths[0].write_text(name)
            artifact.add_file(str(paths[0]))
            run.log_artifact(artifact)
    forget_wandb()
    found = {path.name: path for path in WandbAdapter(str(wandb_file(tmp_path))).files(into)}
    assert found.keys() == {"wandb-files", "weights"}
    assert tree([found["weights"]]) == {"weights/report.html": b"new"}
    assert (found["wandb-files"] / "requirements.txt").is_file()
    assert any((found["wandb-files"] / "media" / "table").iterdir())


def test_what_is_gone_is_told(tmp_path, paths, into):
    """W&B stages artifacts outside of the run's folder; where they are gone, that is said."""
    sink = WandbSink.create()
    home = sink.open(RUN)
    sink.close("FINISHED", paths)
    for staged in (tmp_path / "artifacts" / "staging").iterdir():
        staged.unlink()
    adapter = WandbAdapter(home.source)
    assert [path.name for path in adapter.files(into)] == ["wandb-files"]
    assert len(adapter.problems) == 3
    assert "artifact rldk-rosy-run: report.html is not on this disk" in adapter.problems


def test_parts_do_not_overwrite_each_other(into):
    """Of a run of several parts, each has a folder of its own."""
    home, _ = go_on(RUN, []), go_on(RUN, [])
    (folder,) = WandbAdapter(home.source).files(into)
    assert len(list(folder.iterdir())) == 2


def test_the_same_files_twice(paths):
    """Files that a run already has are no trouble when it is closed again."""
    for _ in range(2):
        sink = WandbSink.create()
        sink.open(RUN)
        sink.close("FINISHED", paths)


def test_not_from_a_server(into):
    """Files on a server are not fetched, and the error says what to give."""
    with pytest.raises(SourceError, match="give the run's own folder"):
        WandbAdapter("wandb://a/b/c").files(into)
