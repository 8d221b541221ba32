"""A file that cannot be written leaves the others alone, and itself as it was."""

from __future__ import annotations

import errno

import pytest

from rldk import export
from rldk.report.outputs import OutputsError, write_all
from rldk.report.story import Story
from tests.report._runs import quick

ENDINGS = ["_metrics.csv", "_alerts.json", "_final_report.json", "_report.html"]


def names(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_that_cannot_be_written_is_named(tmp_path, ending):
    """The others are there, and nothing half-written is left."""
    (tmp_path / f"abc123{ending}").mkdir()
    with pytest.raises(OutputsError, match=f"abc123{ending}") as caught:
        write_all(Story.of(quick()), tmp_path)
    assert [path.name for path in caught.value.written] == [f"abc123{e}" for e in ENDINGS if e != ending]
    assert names(tmp_path) == sorted(f"abc123{e}" for e in ENDINGS)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    """For each of the files."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputsError) as caught:
        write_all(Story.of(quick()), tmp_path / "file" / "out")
    assert len(caught.value.failures) == 4


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    """The second time there is no room for the page any more."""
    paths = write_all(Story.of(quick()), tmp_path)
    before = paths[3].read_bytes()
    write = type(tmp_path).write_bytes

    def full(path, content):
        if path.name.endswith(".html.new"):
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OutputsError, match="No space left on device"):
        write_all(Story.of([*quick()][:-1]), tmp_path)
    assert paths[3].read_bytes() == before
    assert names(tmp_path) == sorted(f"abc123{e}" for e in ENDINGS)


def test_a_run_id_is_no_path(tmp_path):
    """Whatever others have called their runs."""
    paths = write_all(Story.of(quick("../../<script>/é")), tmp_path / "out")
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert export.form_of(paths[0].name) == "csv"
