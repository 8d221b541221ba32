"""What W&B's and MLflow's pages and APIs export is recognised by its header, and read for what it is."""

from __future__ import annotations

import math
import subprocess
import sys

import mlflow
import pytest
from mlflow.entities import Metric, Param, RunTag

from rldk.adapters.tables import TableAdapter


def read(path):
    """The events and the problems."""
    adapter = TableAdapter(str(path))
    assert adapter.can_handle()
    return list(adapter.events()), adapter.problems


def chart(tmp_path, *header):
    """A chart of W&B with one row, in which each column holds its own number."""
    path = tmp_path / "wandb_export.csv"
    row = [str(n) for n in range(len(header))]
    path.write_text("".join(",".join(f'"{cell}"' for cell in cells) + "\n" for cells in (header, row)))
    return path


def by_run(events):
    """The metrics of each run."""
    return {event.run_id: event.metrics for event in events if event.kind == "metrics"}


def test_a_wandb_chart_has_a_column_for_each_run(sample):
    """Its bounds are left out, a hole is missing, and a run's name may hold the dash."""
    events, problems = read(sample("wandb_chart.csv"))
    steps = {
        run: [e.step for e in events if e.run_id == run and e.kind == "metrics"]
        for run in ("grpo-seed0", "grpo - seed1")
    }
    assert steps["grpo-seed0"][:4] == [0, 10, 20, 30]
    assert steps["grpo - seed1"][:2] == [0, 20]
    assert {name for event in events for name in event.metrics} == {"train/reward"}
    assert "sample" in problems[0]


def test_a_wandb_chart_is_cut_where_the_metrics_agree(tmp_path):
    """Three runs of one metric; or two metrics of each run."""
    events, _ = read(chart(tmp_path, "Step", "a - b - loss", "a - loss", "c - d - e - loss"))
    assert by_run(events) == {"a - b": {"loss": 1}, "a": {"loss": 2}, "c - d - e": {"loss": 3}}
    events, _ = read(chart(tmp_path, "Step", "x - 1 - kl", "x - 1 - loss", "y - kl", "y - loss"))
    assert by_run(events) == {"x - 1": {"kl": 1, "loss": 2}, "y": {"kl": 3, "loss": 4}}


def test_runs_of_one_name_are_told_apart(tmp_path):
    """W&B gives two columns of one name."""
    events, _ = read(chart(tmp_path, "train/global_step", "a - loss", "a - loss"))
    assert by_run(events) == {"a": {"loss": 1}, "a (2)": {"loss": 2}}


def test_a_wandb_run_table_has_the_latest_values(sample):
    """One event for each run, its state, and that there is no history."""
    events, problems = read(sample("wandb_runs.csv"))
    assert [(e.run_id, e.kind) for e in events] == [
        (run, kind) for run in ("grpo-seed0", "grpo - seed1") for kind in ("run", "metrics", "end")
    ]
    assert events[0].model_info["config"] == {"model.name": "Qwen"}
    assert set(events[0].model_info["tags"]) == {"a", "b"}
    assert events[1].metrics["train/loss"] == 0.032
    assert events[1].wall_time == 9910.0
    assert math.isnan(events[4].metrics["train/loss"])
    assert "eval/reward" not in events[4].metrics
    assert (events[2].model_info["status"], events[5].model_info["status"]) == ("FINISHED", "FAILED")
    assert "latest values only" in problems[0]


def test_an_mlflow_chart_is_a_history(sample):
    """NaN is NaN, and the largest float is the infinity for which MLflow keeps it: that is told."""
    events, problems = read(sample("mlflow_chart.csv"))
    values = [event.metrics["rldk/health/entropy"] for event in events[1:]]
    assert len(values) == 60
    assert [n for n, value in enumerate(values) if math.isnan(value)] == [7, 27, 47]
    assert events[1].time == 1700000000.0
    assert problems == []
    events, problems = read(sample("mlflow_chart_inf.csv"))
    assert [e.step for e in events if math.inf in e.metrics.values()] != []
    assert "as which MLflow keeps an infinity" in problems[0]


def test_an_mlflow_run_table_has_the_latest_values(sample):
    """Parameters and metrics cannot be told apart there."""
    events, problems = read(sample("mlflow_runs.csv"))
    assert [event.kind for event in events] == ["run", "metrics", "end"] * 2
    assert events[1].metrics["kl"] == 0.59
    assert events[0].model_info["name"] == "grpo-b"
    assert len(problems) == 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in a database of the real MLflow, with two points of a metric; its id."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = f"sqlite:///{tmp_path}/m.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = mlflow.MlflowClient(uri)
    run = client.create_run("0", run_name="named", start_time=1700000000000)
    points = [Metric("kl", value, 1700000000000 + step, step) for step, value in ((1, 0.25), (2, 0.5))]
    client.log_batch(run.info.run_id, points, [Param("beta", "0.1")], [RunTag("team", "x")])
    client.set_terminated(run.info.run_id, "KILLED", 1700000005000)
    return run.info.run_id


@pytest.mark.parametrize("way", ["search_runs csv", "search_runs parquet", "experiments csv"])
def test_search_runs_is_read(tmp_path, run, way):
    """The table that the real API gives, saved in both ways, and what `mlflow experiments csv` writes."""
    path = tmp_path / f"runs.{way.rpartition(' ')[2]}"
    if way == "experiments csv":
        words = ["mlflow", "experiments", "csv", "-x", "0", "-o", path]
        subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    else:
        table = mlflow.search_runs(["0"])
        table.to_csv(path) if path.suffix == ".csv" else table.to_parquet(path)
    events, problems = read(path)
    first, metrics, end = events
    assert first.run_id == run
    assert {key: first.model_info[key] for key in ("config", "tags", "name")} == {
        "config": {"beta": "0.1"},
        "tags": {"team": "x"},
        "name": "named",
    }
    assert (metrics.step, metrics.metrics) == (0, {"kl": 0.5})
    assert (first.time, metrics.time) == (1700000000.0, 1700000005.0)
    assert end.model_info["status"] == "KILLED"
    assert "latest values only, and no history, whose step is not known" in problems[0]
