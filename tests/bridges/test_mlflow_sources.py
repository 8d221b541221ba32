"""Which sources the MLflow adapter takes, and which one the sink gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rldk.errors import MissingDependencyError, SourceError
from rldk_mlflow import client
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.place import Place
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.event import Event

RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "source",
    [
        f"runs:/{RUN}",
        f"sqlite:////abs/mlflow.db#runs/{RUN}",
        f"http://host:5000#runs/{RUN}",
        f"http://host:5000/#/experiments/1/runs/{RUN}",
        f"https://host/prefix/#/experiments/1/runs/{RUN}/model-metrics",
        f"http://host:5000/#/experiments/1/runs/{RUN}?workspace=a",
        f"postgresql+psycopg2://host/db#runs/{RUN}",
        f"file:///data/mlruns#runs/{RUN}",
        f"databricks#runs/{RUN}",
        f"databricks://profile#runs/{RUN}",
    ],
)
def test_a_run_in_mlflow_is_recognised(source: str) -> None:
    """The form alone decides; nobody is asked, and the run is all there is in the source."""
    assert MLflowAdapter(source).can_handle()
    assert MLflowAdapter(source).runs() == [source]


@pytest.mark.parametrize(
    ("source", "experiment"),
    [
        ("sqlite:////abs/mlflow.db#experiments/3", "3"),
        ("http://host:5000#experiments/3", "3"),
        ("http://host:5000/#/experiments/3", "3"),
        ("http://host:5000/#/experiments/3/", "3"),
        ("http://host:5000/#/experiments/3/runs?compareRunsMode=CHART", "3"),
        ("https://host/prefix/#/experiments/3?searchFilter=&workflowType=machine_learning", "3"),
        ("http://host:5000#experiments/alignment", "alignment"),
        ("http://host:5000#experiments/team/PPO (new)? #2", "team/PPO (new)? #2"),
        ("databricks#experiments//Users/me@example.com/ppo", "/Users/me@example.com/ppo"),
    ],
)
def test_an_experiment_in_mlflow_is_recognised(source: str, experiment: str) -> None:
    """By its id, its name, or the address of a page of it."""
    assert MLflowAdapter(source).can_handle()
    place = Place.parse(source)
    assert place is not None
    assert (place.experiment, place.run_id) == (experiment, None)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "run.jsonl",
        "/data/runs/abc",
        "runs/abc",
        "runs:/",
        "wandb://entity/project/abc",
        "https://wandb.ai/entity/project/runs/abc",
        "http://host:5000",
        "http://host:5000/#/experiments",
        "http://host:5000/#/models/3",
        "sqlite://",
        "file:///data/mlruns",
        "/data/mlflow.db",
        "/data/mlflow.db#experiments/1",
        "http://host:5000/#/compare-runs?runs=abc",
        'http://host:5000/#/compare-runs?runs=["a"]&experiments=["1"]',
    ],
)
def test_anything_else_is_left_to_others(source: str) -> None:
    """What has not the form is refused, without an error."""
    assert not MLflowAdapter(source).can_handle()


def test_a_source_without_a_run_says_what_to_give() -> None:
    """To read it nevertheless names the forms."""
    with pytest.raises(SourceError, match="runs:/<run id>"):
        list(MLflowAdapter("http://host:5000/").events())


def test_the_short_form_looks_where_mlflow_is_configured_to(
    run: Event, event: Callable[..., Event], mlflow_db: str
) -> None:
    """runs:/ID and the sink's own source give the same events."""
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0})])
    assert home.source == f"{mlflow_db}#runs/{home.run_id}"
    short = MLflowAdapter(f"runs:/{home.run_id}").events()
    assert list(short) == list(MLflowAdapter(home.source).events())


def test_a_relative_database_is_told_absolutely(
    run: Event, mlflow_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is good from any folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    home = MLflowSink.create().open(run)
    assert home.source == f"{mlflow_db}#runs/{home.run_id}"
    assert home.url is None


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:5000/x", "http://host:5000/x"),
        ("postgresql://user:s%40cret@host/db?password=secret", "postgresql://host/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("databricks://profile", "databricks://profile"),
    ],
)
def test_a_source_tells_no_secret(uri: str, shown: str) -> None:
    """User, password and query are left out."""
    assert client.without_secrets(uri) == shown


def test_a_source_without_its_secret_is_still_read(
    run: Event, event: Callable[..., Event], mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is the configured place, MLflow's own credentials are used."""
    configured = mlflow_server.replace("://", "://user:secret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", configured)
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.send([event(1, step=1, metrics={"loss": 1.0})])
    assert home.source == f"{mlflow_server}#runs/{home.run_id}"
    assert MLflowAdapter(home.source)._uri() == configured
    assert len(list(MLflowAdapter(home.source).events())) == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_folder_of_a_file_store_is_told_absolutely(
    run: Event, event: Callable[..., Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's old file store needs to be allowed; then its runs are read too, each point once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "store")
    sink = MLflowSink.create()
    home = sink.open(run)
    for _ in range(2):
        sink.send([event(1, step=1, metrics={"loss": -0.0}), event(2, step=2, metrics={"loss": 1.0})])
    adapter = MLflowAdapter(home.source)
    assert [e.step for e in adapter.events()] == [0, 1, 2]
    assert (home.source, adapter.problems) == (f"file://{tmp_path}/store#runs/{home.run_id}", [])


def test_without_mlflow_both_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line, with the command."""
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rldk\[mlflow\]'"):
        MLflowSink.create()
    with pytest.raises(MissingDependencyError, match=r"pip install 'rldk\[mlflow\]'"):
        list(MLflowAdapter(f"runs:/{RUN}").events())
    assert MLflowSink.attach() is None
