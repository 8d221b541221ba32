"""Two real trainings are the same where all is, and part where the rate or the seed is another one."""

from __future__ import annotations

import pytest

from rldk.diff import diff
from rldk.integrations.trl import RLDKCallback

pytestmark = pytest.mark.real


@pytest.fixture
def train(make_trainer, tmp_path):
    """Train for six steps with some options; gives the journal."""

    def train(name, **options):
        callback = RLDKCallback(output_dir=tmp_path / name, run_id=name, trackers=None)
        make_trainer("SFT", [callback], max_steps=6, eval_rows=2, **options).train()
        return callback.journal_path

    return train


def test_what_was_set_otherwise_is_where_they_part(train):
    """The rate at once, the loss when it has had an effect; another seed in the order of the data."""
    base = train("base", learning_rate=1e-3, seed=1)
    again = diff(base, train("again", learning_rate=1e-3, seed=1))
    assert again.is_same, again.summary
    assert set_otherwise(again) == []
    faster = diff(base, train("faster", learning_rate=1e-1, seed=1))
    parted = {metric.label: metric.first.step for metric in faster.parted}
    assert set_otherwise(faster) == ["learning_rate"]
    assert parted["lr"] == 1
    assert parted["loss"] == 2
    reseeded = diff(base, train("reseeded", learning_rate=1e-3, seed=2))
    assert set_otherwise(reseeded) == ["seed"]
    assert "lr" not in {metric.label for metric in reseeded.parted}
    assert min(metric.first.step for metric in reseeded.parted) == 1


def set_otherwise(found):
    """What of the settings differs; the repository may have got a commit meanwhile."""
    return [one.name for one in found.settings if not one.is_place and one.name != "commit"]
