"""docs/trackers.md tells what a real run has in MLflow: its names are there, its searches find the run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

PAGE = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text(encoding="utf-8")
SEARCHES = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()


@pytest.fixture(scope="module")
def data(recorded):
    """Metrics, params and tags of the run."""
    return recorded.client.get_run(recorded.run_id).data


def test_the_names_of_its_table_are_there(data):
    """Those of every run; an alert of another rule is this run's."""
    table = PAGE[PAGE.index("## Where things are") : PAGE.index("## MLflow")].replace(
        "kl_drift", "limit_kl_divergence"
    )
    metrics = set(re.findall(r"`(rldk/[a-z]+(?:/[a-z_]+)?)`", table)) - {
        "rldk/args",
        "rldk/run_id",
        "rldk/step",
    }
    of_wandb = {name for name in metrics if re.match(r"rldk/(health|stopped_by|report)", name)} | {
        "rldk/health_rules"
    }
    assert metrics - of_wandb <= set(data.metrics)
    tags = set(re.findall(r"`(rldk\.[a-z_.]+)`", table)) - {"rldk.stopped_by", "rldk.git_sha"}
    assert tags <= set(data.tags)
    assert re.findall(r"`(args/\w+)`", table)[0] in data.params


@pytest.mark.parametrize("search", SEARCHES)
def test_its_searches_are_understood(recorded, data, search):
    """Each finds the run, once it asks for what this run has."""
    asked = search.replace("critical", data.tags["rldk.health"].partition(":")[0]).replace("> 0.5", "> -1")
    asked = asked.replace("kl_drift", "limit_kl_divergence")
    experiment = re.search(r"experiments/(\d+)", recorded.experiment)[1]
    found = recorded.client.search_runs([experiment], asked)
    assert [run.info.run_id for run in found] == [recorded.run_id]


def test_its_box_of_charts_finds_six(data):
    """As the sentence says."""
    wanted = re.search(r"`(rldk/\(.*\)\$)`", PAGE)[1]
    assert len([name for name in data.metrics if re.search(wanted, name)]) == 6
