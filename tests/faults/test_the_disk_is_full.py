"""A disk that is full for a while costs no event; one that stays full costs no training, and that is told."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.faults._child import Child
from tests.faults._life import events_of

pytestmark = pytest.mark.real

MOUNTED = 'mount -t tmpfs -o size=1m tmpfs "$SMALL" && exec "$0" "$@"'
SPACES = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))


def own_mounts():
    """How to start a process that may mount what nobody else sees; None where the system forbids it."""
    for command in SPACES if shutil.which("unshare") else ():
        probe = [*command, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
        if not subprocess.run(probe, capture_output=True, check=False).returncode:
            return command
    return None


@pytest.fixture
def begin(impatient, tmp_path, monkeypatch):
    """Start a process whose folder `small` is a disk of 1 MiB, which nobody else sees."""
    space = own_mounts()
    if space is None:
        pytest.skip("this system lets nobody mount a tmpfs: it needs root, or user namespaces")
    (tmp_path / "small").mkdir()
    monkeypatch.setenv("SMALL", str(tmp_path / "small"))
    monkeypatch.setenv("COPY", str(tmp_path / "copy"))
    children = []

    def start(folder, *trackers):
        wrapper = (*space, "sh", "-c", MOUNTED)
        module = "tests.faults._on_a_small_disk"
        children.append(Child(folder, *trackers, module=module, wrapper=wrapper).__enter__())
        return children[-1]

    yield start
    for child in children:
        child.__exit__()


def moved(child, tmp_path):
    """Go on with the copy of the journal."""
    child.path = tmp_path / "copy" / child.path.relative_to(tmp_path / "small")


def test_the_journal_has_no_room_for_a_while(begin, proxy, tmp_path, made_whole):
    """The journal is complete when the disk has room again, and so is the tracker."""
    child = begin(tmp_path / "small" / "rldk", "mlflow")
    child.log(20)
    child.arrive()
    child.tell("fill")
    child.log(200)
    child.tell("free")
    child.log(20)
    child.arrive()
    report = child.end()
    moved(child, tmp_path)
    made_whole(child)
    assert (report.waiting, report.is_closed) == (0, True)


def test_the_journal_has_no_room_until_the_end(begin, proxy, tmp_path, tell):
    """The process ends as ever, what there is is whole, and how much is lost is told."""
    child = begin(tmp_path / "small" / "rldk", "mlflow")
    child.log(20)
    child.arrive()
    child.tell("fill")
    child.log(200)
    report = child.end()
    moved(child, tmp_path)
    kept = [event.step for event in events_of(child.path) if event.kind == "metrics"]
    lost = len(child.logged) - len(kept)
    tell(report, child.end_s, {"missing": lost * 3})
    assert kept == child.logged[: len(kept)]
    assert lost > 0
    assert f"{lost + 1} events are lost, for the disk is full" in child.read_errors()
    assert report.waiting >= lost


@pytest.fixture
def wandb_on_the_small_disk(wandb_offline, tmp_path, monkeypatch):
    """W&B writes its runs to the small disk, and has a second for the end."""
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "small"))
    monkeypatch.setenv("TEST_WANDB_PATIENCE_S", "3")
    monkeypatch.setenv("RLDK_CLOSE_DEADLINE_S", "10")


@pytest.mark.usefixtures("wandb_on_the_small_disk")
def test_wandb_has_no_room_for_a_while(begin, tmp_path, made_whole):
    """What wandb-core could not write is sent again."""
    child = begin(tmp_path / "rldk", "wandb")
    child.log(20)
    child.arrive()
    child.tell("fill")
    child.log(200)
    child.arrive()
    child.tell("free")
    child.log(20)
    child.end()
    bring_back(tmp_path)
    made_whole(child, deadline_s=10)


@pytest.mark.usefixtures("wandb_on_the_small_disk")
def test_wandb_has_no_room_until_the_end(begin, tmp_path, made_whole):
    """The same, later."""
    child = begin(tmp_path / "rldk", "wandb")
    child.log(20)
    child.arrive()
    child.tell("fill")
    child.log(200)
    child.arrive()
    child.end()
    bring_back(tmp_path)
    made_whole(child, deadline_s=10)


def bring_back(tmp_path):
    """Put what the small disk held where it was."""
    (tmp_path / "small").rmdir()
    (tmp_path / "copy").rename(tmp_path / "small")
