"""What W&B's API gives of a run's history is read as it stands: tables of `history()`, Parquet exports."""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rldk.adapters.tables import TableAdapter
from rldk.adapters.wandb_history import WandbHistoryAdapter
from rldk.errors import SourceError
from rldk.ingest import ingest_runs

AT = 1700000000.0

ROWS = [
    {"_step": 0, "_runtime": 1.5, "_timestamp": AT, "train/loss": 0.5, "train/global_step": 10},
    {"_step": 1, "_runtime": 1.6, "_timestamp": AT + 0.1, "system/gpu": 7.0},
    {"_step": 2, "_runtime": 3.0, "_timestamp": AT + 2, "eval/loss": 0.25, "train/global_step": 10},
    {"_step": 3, "_runtime": 4.0, "_timestamp": AT + 3, "train/loss": math.inf, "train/global_step": 20},
    {"_step": 4, "_runtime": 5.0, "_timestamp": AT + 4, "tokens": 2**53 - 1, "train/global_step": 30},
]
"""As the API gives a history: a row has what was logged at once."""
STEPS = [10, 10, 10, 20, 30]


def history(folder, suffix):
    """`run.history()`, which is a DataFrame of these rows, saved."""
    table, path = pd.DataFrame.from_records(ROWS), folder / f"history.{suffix}"
    {
        "csv": lambda: table.to_csv(path),
        "tsv": lambda: table.to_csv(path, sep="\t", index=False),
        "csv.gz": lambda: table.to_csv(path),
        "parquet": lambda: table.to_parquet(path),
    }[suffix]()
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet"])
def test_a_saved_history_keeps_every_row(tmp_path, told, suffix):
    """A hole is missing; the step is the trainer's, and W&B's count where a row has none."""
    adapter = TableAdapter(str(history(tmp_path, suffix)))
    assert adapter.can_handle()
    events = list(adapter.events())
    assert [step for step, _ in told(events)] == STEPS
    logged = [{key for key in row if key[0] != "_" and key != "train/global_step"} for row in ROWS]
    assert [set(metrics) for _, metrics in told(events)] == logged
    assert [event.time for event in events[1:]] == [row["_timestamp"] for row in ROWS]
    assert events[0].run_id == "history"
    assert adapter.problems == []


def test_a_history_with_w_and_bs_count_alone_has_it_as_steps(tmp_path, told):
    """Where the trainer's step was not logged."""
    pd.DataFrame({"_step": [0, 5], "loss": [1.0, 2.0]}).to_csv(tmp_path / "h.csv")
    assert told(TableAdapter(str(tmp_path / "h.csv")).events()) == [(0, {"loss": 1.0}), (5, {"loss": 2.0})]


def test_rows_of_rldk_have_their_own_step(tmp_path, told):
    """Beside those of the trainer's own logging, whose step they do not have."""
    rows = [
        {"_step": 0, "train/global_step": 5, "train/loss": 1.0},
        {"_step": 1, "rldk/step": 10, "rldk/seq": 3, "rldk/loss": 0.5},
    ]
    pd.DataFrame.from_records(rows).to_csv(tmp_path / "h.csv")
    events = TableAdapter(str(tmp_path / "h.csv")).events()
    assert told(events) == [(5, {"train/loss": 1.0}), (10, {"rldk/loss": 0.5})]


def test_each_row_tells_its_step_where_it_has_one(tmp_path, told):
    """Two tools may have logged to one run, each with its own axis."""
    table = {"_step": [0, 1], "global_step": [None, 7], "trainer/global_step": [5, None], "loss": [1.0, 2.0]}
    pd.DataFrame(table).to_csv(tmp_path / "h.csv")
    assert told(TableAdapter(str(tmp_path / "h.csv")).events()) == [(5, {"loss": 1.0}), (7, {"loss": 2.0})]


def test_the_histories_of_several_runs_share_a_table(tmp_path):
    """As `api.runs(...).histories(format="pandas")` gives them, with columns by name."""
    tables = [pd.DataFrame.from_records(ROWS).assign(run_id=run_id) for run_id in ("b", "a")]
    whole = pd.concat(tables).reset_index(drop=True)
    whole[sorted(whole)].to_csv(tmp_path / "all.csv")
    events = list(TableAdapter(str(tmp_path / "all.csv")).events())
    for run_id in ("a", "b"):
        assert [e.step for e in events if e.run_id == run_id and e.kind == "metrics"] == STEPS


def export(folder, name, rows):
    """A file as `download_history_exports` leaves it: a column for each key, null where it was not logged."""
    path = folder / f"{name}.runhistory.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.unify_schemas([schema(row) for row in rows])), path)
    return path


def schema(row):
    """The types of a row's values."""
    return pa.schema(
        {key: pa.int64() if isinstance(value, int) else pa.float64() for key, value in row.items()}
    )


@pytest.fixture
def exports(tmp_path):
    """A run in three parts, of which the last has another column, and one in a single part."""
    broken = {"_step": 9, "_timestamp": AT + 9, "train/loss": math.nan}
    for number, rows in ((2, [ROWS[4], broken]), (10, [{"_step": 10, "late": 1.0}]), (0, ROWS[:4])):
        export(tmp_path, f"team_my_project_a1b2c3d4_{number}", rows)
    export(tmp_path, "team_p_my-run_0", ROWS[:1])
    return tmp_path


def test_a_folder_of_exports_has_a_run_for_each_name(exports):
    """The id is in the name; the parts are one run, without a gap and in order."""
    adapter = WandbHistoryAdapter(str(exports))
    assert adapter.can_handle()
    assert adapter.runs() == [
        str(exports / "team_my_project_a1b2c3d4_*.runhistory.parquet"),
        str(exports / "team_p_my-run_0.runhistory.parquet"),
    ]
    events = [event for event in adapter.events() if event.run_id == "a1b2c3d4"]
    assert [event.step for event in events] == [0, *STEPS, 30, 30]
    assert math.isnan(events[-2].metrics["train/loss"])
    assert events[-1].metrics == {"late": 1.0}
    assert [event.seq for event in events] == list(range(8))
    assert len(adapter.files(exports)) == 4


def test_exports_are_ingested(exports):
    """By their contents, and with the names of the catalog."""
    table = ingest_runs(exports)
    assert table.attrs["adapter"] == "wandb_history"
    assert sorted(set(table["run_id"])) == ["a1b2c3d4", "my-run"]
    assert table[table["phase"] == "eval"]["loss"].tolist() == [0.25]
    assert table.attrs["trainers"] == {}
    one = ingest_runs(exports / "team_p_my-run_0.runhistory.parquet")
    assert one["loss"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("team_p_any-name", "any-name"),
        ("team_my_project_a1b2c3d4", "a1b2c3d4"),
        ("team_my_project_my_run", "team_my_project_my_run"),
    ],
)
def test_the_id_is_taken_from_the_name_where_that_is_clear(tmp_path, name, run_id):
    """Projects and ids may hold the underscore that is between them; then all of it is the id."""
    path = export(tmp_path, f"{name}_0", ROWS)
    assert {event.run_id for event in WandbHistoryAdapter(str(path)).events()} == {run_id}


def test_an_export_that_is_damaged_is_an_error(tmp_path):
    """Also one that is no history."""
    path = export(tmp_path, "e_p_r_0", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="cut off"):
        list(WandbHistoryAdapter(str(tmp_path)).events())
    export(tmp_path, "e_p_r_0", [{"step": 1, "loss": 0.5}])
    with pytest.raises(SourceError, match="no column _step"):
        list(WandbHistoryAdapter(str(tmp_path)).events())
    for source in (tmp_path / "missing", tmp_path / "e_p_x_0.runhistory.parquet", tmp_path / "e_p_x_*.x"):
        assert not WandbHistoryAdapter(str(source)).can_handle()
        with pytest.raises(SourceError, match="no history export"):
            WandbHistoryAdapter(str(source)).runs()


def test_a_folder_of_too_many_exports_is_refused(exports, monkeypatch):
    """None of them is left out in silence; other files do not count."""
    for number in range(3):
        (exports / f"notes-{number}").write_text("x")
    monkeypatch.setattr("rldk.adapters.wandb_history._MOST_FILES", 4)
    assert len(WandbHistoryAdapter(str(exports)).files(exports)) == 4
    monkeypatch.setattr("rldk.adapters.wandb_history._MOST_FILES", 3)
    assert WandbHistoryAdapter(str(exports)).can_handle()
    with pytest.raises(SourceError, match="more than 3 history exports"):
        WandbHistoryAdapter(str(exports)).runs()
