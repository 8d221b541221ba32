"""A W&B offline record of a real training has what MLflow has, on an axis of its own, read by two readers."""

from __future__ import annotations

import json

import pytest

from rldk.ingest import ingest_runs
from rldk_wandb.adapter import WandbAdapter
from rldk_wandb.offline import WandbFile
from tests.bridges._wandb_runs import protobuf_records
from tests.ui.conftest import STEPS

pytestmark = pytest.mark.real

OWN_KEYS = {"_step", "_runtime", "_timestamp"}  # W&B's
ROW_KEYS = {"rldk/step", "rldk/seq"}


@pytest.fixture(scope="module")
def records(recorded):
    """The whole record, as wandb's own classes read it."""
    return list(protobuf_records(recorded.wandb_file))


@pytest.fixture(scope="module")
def rows(records):
    """Each row with the place of its record: what was logged, by name."""
    return [
        (record.num, {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
        for record in records
        if record.HasField("history")
    ]


def measured(row):
    """The names of RLDK's numbers in a row."""
    is_number = {name for name, value in row.items() if not name.startswith("rldk/report")}
    return is_number - OWN_KEYS - ROW_KEYS


def test_both_readers_see_the_same_rows(recorded, rows):
    """RLDK's reader, which needs no wandb, and wandb's own."""
    assert [row for _, row in rows if "rldk/seq" in row] == [
        row for row in WandbFile(recorded.wandb_file).rows() if "rldk/seq" in row
    ]


def test_names_are_those_of_mlflow(recorded, rows):
    """One list of names for both, but for the count that MLflow needs for a NaN to be seen."""
    names = set().union(*(measured(row) for _, row in rows))
    there = set(recorded.client.get_run(recorded.run_id).data.metrics)
    assert names == there - {"rldk/health/nonfinite_count"}


def test_each_metric_has_its_axis_before_its_first_row(records, rows):
    """By its exact name, with rldk/step, which no step of others is added to."""
    defined = {record.metric.name: record for record in records if record.HasField("metric")}
    assert not [record for record in records if record.HasField("metric") and record.metric.glob_name]
    first = {}
    for place, row in rows:
        for name in measured(row):
            first.setdefault(name, place)
    for name, place in first.items():
        assert defined[name].metric.step_metric == "rldk/step", name
        assert not defined[name].metric.options.step_sync, name
        assert defined[name].num < place, name
    hidden = {name for name, record in defined.items() if record.metric.options.hidden}
    assert hidden == ROW_KEYS


def test_every_row_has_its_step(rows):
    """The trainer's, on which the charts are drawn."""
    assert all("rldk/step" in row for _, row in rows)
    steps = [row["rldk/step"] for _, row in rows if "rldk/loss" in row]
    assert steps == list(range(1, STEPS + 1))


def test_alerts_are_there_for_sync_to_send(recorded, records):
    """One for each alert that began, with the words of the journal."""
    alerts = [record.alert for record in records if record.HasField("alert")]
    told = [json.loads(line) for line in recorded.journal.read_bytes().splitlines()]
    begun = [
        event
        for event in told
        if event["kind"] == "alert" and event["model_info"]["alert"]["state"] == "firing"
    ]
    assert begun
    assert [alert.text.partition("\n")[0] for alert in alerts] == [
        f"Step {event['step']}: {event['model_info']['alert']['message']}" for event in begun
    ]
    assert {alert.level for alert in alerts} <= {"INFO", "WARN", "ERROR"}


def test_the_report_is_a_page_of_the_workspace(recorded, rows):
    """As W&B's HTML, with the bytes of the file beside the journal."""
    report = recorded.journal.with_name(recorded.journal.name.replace("_events.jsonl", "_report.html"))
    [shown] = [row for _, row in rows if "rldk/report/path" in row]
    assert (shown["rldk/report/_type"], shown["rldk/step"]) == ("html-file", STEPS)
    held = recorded.wandb_file.parent / "files" / shown["rldk/report/path"]
    assert held.read_bytes() == report.read_bytes()


def test_the_journal_is_in_an_artifact_with_all_that_was_made_of_it(recorded, records, tmp_path):
    """One, which comes back as it was: the journal gives the run's table again."""
    [artifact] = [record.artifact for record in records if record.HasField("artifact")]
    stem = recorded.journal.name.removesuffix("_events.jsonl")
    files = ("alerts.json", "events.jsonl", "final_report.json", "metrics.csv", "report.html")
    assert sorted(entry.path for entry in artifact.manifest.contents) == [f"{stem}_{file}" for file in files]
    fetched = WandbAdapter(str(recorded.wandb_file.parent)).files(tmp_path)
    (journal,) = [path for path in fetched if path.name == recorded.journal.name]
    assert journal.read_bytes() == recorded.journal.read_bytes()


def test_the_summary_is_what_a_table_of_runs_needs(recorded):
    """The last value of each metric, as a plain number, and the verdict."""
    summary = WandbFile(recorded.wandb_file).run().summary
    last = {}
    for row in WandbFile(recorded.wandb_file).rows():
        last |= {name: row[name] for name in measured(row) if not name.startswith("rldk/report")}
    assert {name: summary[name] for name in last} == last
    assert (summary["rldk/health"], summary["rldk/step"]) == ("warning", STEPS)


def test_it_reads_back_as_the_journal(recorded):
    """The same table from the journal, from MLflow and from the offline record."""
    address = recorded.experiment.partition("#")[0]
    table = ingest_runs(recorded.journal)
    for source in (recorded.wandb_file.parent, f"{address}#runs/{recorded.run_id}"):
        again = ingest_runs(str(source))
        assert list(again.columns) == list(table.columns)
        assert again.to_csv() == table.to_csv()
