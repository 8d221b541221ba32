"""Which run is this: the order of those who may say, and ids that no file system minds."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldk.identity import git_sha, safe_name, settle

BOTH = {"mlflow": "m", "wandb": "w"}


@pytest.mark.parametrize(
    ("asked", "run_id"),
    [
        (("given", BOTH, "resumed", "name"), "given"),
        ((None, BOTH, "resumed", "name"), "w"),
        ((None, {"mlflow": "m"}, "resumed", "name"), "m"),
        ((None, {"other": "o", "mlflow": "m"}, None, None), "m"),
        ((None, {"other": "o"}, None, None), "o"),
        ((None, {}, "resumed", "name"), "resumed"),
    ],
)
def test_the_first_who_knows_decides(asked, run_id):
    """The argument, W&B, MLflow, the resumed checkpoint, in this order."""
    assert settle(*asked).run_id == run_id


def test_a_run_name_is_made_unique():
    """Two runs of one name are two runs."""
    first, second = settle(None, {}, None, "my run"), settle(None, {}, None, "my run")
    assert first.run_id != second.run_id
    assert first.run_id.startswith("my_run-")


def test_fresh_ids_differ_within_a_second():
    """Two ranks or two jobs that start together do not share a run."""
    assert len({settle(None, {}, None, None).run_id for _ in range(1000)}) == 1000


def test_a_run_under_another_id_continues_the_resumed_one():
    """The link is told where the id changed, and only there."""
    assert settle(None, BOTH, "resumed", None).continues == "resumed"
    assert settle(None, {}, "resumed", None).continues is None
    assert settle(None, {}, None, None).continues is None


@pytest.mark.parametrize(
    "hostile", ["../x", "a/b", "..", ".", ".hidden", "x" * 300, "名前", "a\0b", "CON:", " ", "a\nb", "\ud800"]
)
def test_hostile_ids_become_plain_file_names(hostile, tmp_path):
    """The file lands in its folder, whatever the id."""
    path = tmp_path / f"{safe_name(hostile)}_events.jsonl"
    path.write_text("")
    assert path.parent == tmp_path
    assert list(tmp_path.iterdir()) == [path]


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_ids_stay_different(one, other):
    """What is made safe is not mixed up."""
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(st.text(min_size=1))
def test_a_safe_id_is_left_alone(run_id):
    """To make safe twice is to make safe once."""
    safe = safe_name(run_id)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}", safe)
    assert safe_name(safe) == safe


def test_the_commit_is_that_of_the_folder(tmp_path):
    """The sha is git's own; without a repository or a commit there is none."""
    assert git_sha(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert git_sha(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    assert re.fullmatch("[0-9a-f]{40}", git_sha(tmp_path))
