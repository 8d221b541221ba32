"""`rldk sync --runs` sends the runs that were asked for, also where one file holds several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bridges._journals import cache_of_its_own, rldk  # noqa: F401

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


@pytest.fixture
def table(tmp_path):
    """A CSV file that holds two runs, a row of each in turn."""
    path = tmp_path / "two.csv"
    rows = [f"{run},{step},{step / 10}" for step in range(1, 4) for run in ("alpha", "beta")]
    path.write_text("\n".join(["run_id,step,loss", *rows, ""]))
    return path


def arrived():
    """Ids of the runs that MLflow has."""
    from mlflow import MlflowClient

    client = MlflowClient()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return sorted(run.data.tags["rldk.run_id"] for run in runs)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("alpha", ["alpha"]), ("beta", ["beta"]), ("*a", ["alpha", "beta"]), ("all", ["alpha", "beta"])],
)
def test_a_dry_run_tells_of_those_that_were_asked_for(table, asked, expected):
    """Whichever comes first in the file."""
    done = rldk("sync", table, "--to", "mlflow", "--dry-run", "--runs", asked, "--json")
    plans = json.loads(done.stdout)["plans"]
    assert (done.exit_code, [plan["run_id"] for plan in plans]) == (0, expected)
    assert {plan["points"] for plan in plans} == {3}


def test_only_the_runs_that_were_asked_for_are_sent(table, tmp_path):
    """No other is copied, either; what was left out can be sent later."""
    done = rldk("sync", table, "--to", "mlflow", "--runs", "beta")
    assert done.exit_code == 0, done.output
    assert arrived() == ["beta"]
    assert [path.name for path in Path(tmp_path / "cache").rglob("*.jsonl")] == ["beta_events.jsonl"]
    later = rldk("sync", table, "--to", "mlflow")
    assert (later.exit_code, later.output.count("has it already")) == (0, 1), later.output
    assert arrived() == ["alpha", "beta"]


def test_again_forgets_nothing_of_other_runs(table):
    """Of the same file."""
    assert rldk("sync", table, "--to", "mlflow").exit_code == 0
    assert rldk("sync", table, "--to", "mlflow", "--runs", "beta", "--again").exit_code == 0
    assert "alpha: mlflow has it already" in rldk("sync", table, "--to", "mlflow").output


def test_a_run_may_be_in_any_of_several_sources(table, tmp_path):
    """That the others do not have it is no error."""
    other = tmp_path / "other.csv"
    other.write_text("run_id,step,loss\ngamma,1,0.5\n")
    done = rldk("sync", table, other, "--to", "mlflow", "--runs", "gamma")
    assert done.exit_code == 0, done.output
    assert arrived() == ["gamma"]


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_run_that_is_nowhere_is_an_error(table, words):
    """Which names those that are there."""
    done = rldk("sync", table, "--to", "mlflow", "--runs", "nobody", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "rldk: --runs='nobody' cannot be used; give all, or ids of these runs: alpha, beta\n"
    )


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_project_that_is_nowhere_is_an_error(table, words):
    """As a run is."""
    done = rldk("sync", table, "--to", "mlflow", "--project", "nothing", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--project='nothing' cannot be used" in done.stderr
