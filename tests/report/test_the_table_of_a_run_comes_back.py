"""The CSV is the TrainingMetrics table: `ingest_runs` reads back what the journal holds."""

from __future__ import annotations

import pytest

from rldk import event as event_json
from rldk.ingest import ingest_runs
from rldk.report.outputs import write_all
from rldk.report.story import Story
from rldk.testing import runs as hostile
from tests.report._runs import event, eventful, recorded


def exact(table):
    """Everything of a table that can differ; a column without any value is not read back."""
    return {
        name: (str(column.dtype), repr(column.tolist()))
        for name, column in table.items()
        if column.notna().any()
    }


@pytest.mark.parametrize(
    "events",
    [
        lambda: list(eventful()),
        lambda: list(recorded("1.16.0_sft_eval")),
        hostile.short_run,
        lambda: [
            event("metrics", 1, {"loss": 0.5, "step": 7.0, 'a,"b\nc': 1.0}),
            event("metrics", 2, {"loss": 1.0}),
        ],
    ],
    ids=["eventful", "sft", "resumed", "names"],
)
def test_the_csv_is_read_back_as_the_journal(tmp_path, events):
    """To the last digit, and without the steps that were superseded."""
    journal = tmp_path / "abc_events.jsonl"
    journal.write_bytes(b"".join(event_json.encode(each) + b"\n" for each in events()))
    paths = write_all(Story.of(events()), tmp_path / "out")
    assert exact(ingest_runs(paths[0])) == exact(ingest_runs(journal))
