"""EventWriterCallback in a real trainer, beside RLDKCallback: both tell the same."""

from __future__ import annotations

import pytest

from rldk.compare import differing_cells
from rldk.ingest import ingest_runs
from rldk.integrations.trl import EventWriterCallback, RLDKCallback

pytestmark = pytest.mark.real

ONLY_WIDE = {"wall_time", "seed", "git_sha", "tokens_in", "tokens_out"}


def test_a_training_is_the_same_in_both_formats(grpo, tmp_path):
    """Steps and evaluations, value by value."""
    long = EventWriterCallback(tmp_path / "long.jsonl", run_id="r")
    wide = RLDKCallback(output_dir=tmp_path / "rldk", run_id="r")
    trainer = grpo([long, wide], beta=0.1, per_device_eval_batch_size=2)
    trainer.train()
    table = ingest_runs(long.event_log_path)
    differing = differing_cells(ingest_runs(wide.journal_path), table)
    measured = {name: n for name, n in differing.items() if name not in ONLY_WIDE}
    assert set(measured.values()) == {0}
    assert table["step"].tolist() == [1, 2, 3]
    assert table["kl_mean"].notna().all()
    assert long.errors == 0


def test_both_folders_of_a_training_are_one_source(grpo, tmp_path):
    """A wide and a long file of one run, in one folder, make one table of that run."""
    long = EventWriterCallback(tmp_path / "long.jsonl", run_id="r")
    wide = RLDKCallback(output_dir=tmp_path, run_id="r")
    grpo([long, wide]).train()
    table = ingest_runs(tmp_path)
    assert table["step"].tolist() == [1, 2, 3]
    assert table["git_sha"].nunique() <= 1
