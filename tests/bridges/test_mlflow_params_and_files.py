"""The run's arguments and files are visible in MLflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mlflow
import pytest

from rldk.event import decode
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")


def params(run_id: str) -> dict[str, str]:
    """The parameters that MLflow shows."""
    return dict(mlflow.MlflowClient().get_run(run_id).data.params)


def test_arguments_become_params(event: Callable[..., Event]) -> None:
    """Nested arguments get dotted names below args/, where no other callback writes."""
    args = {"beta": 0.04, "lora": {"r": 8, "modules": ["q", "v"]}, "odd (name)": None, "empty": {}}
    home = MLflowSink.create().open(event(kind="run", model_info={"args": args}))
    assert params(home.run_id) == {
        "args/beta": "0.04",
        "args/lora.r": "8",
        "args/lora.modules": '["q", "v"]',
        "args/odd _x0028_name_x0029_": "None",
        "args/empty": "{}",
    }


def test_arguments_are_left_to_transformers_where_it_reports(event: Callable[..., Event]) -> None:
    """With report_to=mlflow the arguments are in the run already."""
    told = {"args": {"beta": 0.04}, "report_to": ["mlflow"]}
    home = MLflowSink.create().open(event(kind="run", model_info=told))
    assert params(home.run_id) == {}


def test_any_number_of_arguments_fits(event: Callable[..., Event]) -> None:
    """MLflow takes a hundred a request; a trainer has more."""
    args = {f"option_{n}": n for n in range(250)}
    home = MLflowSink.create().open(event(kind="run", model_info={"args": args}))
    assert len(params(home.run_id)) == 250


def test_a_changed_argument_does_not_stop_a_resume(event: Callable[..., Event]) -> None:
    """Params are immutable: the first value stays, new ones are added."""
    first = event(kind="run", model_info={"args": {"lr": 1.0}})
    resumed = event(9, kind="run", model_info={"args": {"lr": 0.5, "max_steps": 9}, "segment": 1})
    MLflowSink.create().open(first)
    home = MLflowSink.create().open(resumed)
    assert params(home.run_id) == {"args/lr": "1.0", "args/max_steps": "9"}


def test_a_long_argument_is_whole_among_the_artifacts(event: Callable[..., Event]) -> None:
    """A param is cut and says where the rest is; the file is the run event itself."""
    run = event(kind="run", model_info={"args": {"prompt": "x" * 7000}})
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.close("FINISHED", [])
    shown = params(home.run_id)["args/prompt"]
    file = mlflow.artifacts.load_text(f"runs:/{home.run_id}/rldk/run_0.json")
    assert len(shown) == 6000
    assert "rldk/run_0.json" in shown
    assert decode(file.encode()) == run


def test_artifacts_are_uploaded_and_missing_ones_are_not_missed(run: Event, tmp_path: Path) -> None:
    """Close uploads what exists below rldk/."""
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"verdict": "ok"}))
    sink = MLflowSink.create()
    home = sink.open(run)
    sink.close("FINISHED", [report, tmp_path / "never_written.html"])
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(home.run_id, "rldk")}
    assert files == {"rldk/report.json", "rldk/run_0.json"}


def test_the_status_is_set_where_the_artifact_store_fails(
    run: Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is ended before the first upload, and no metric waits for a file."""
    sink = MLflowSink.create()
    home = sink.open(run)

    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", fail)
    with pytest.raises(PermissionError):
        sink.close("FAILED", [tmp_path])
    assert mlflow.MlflowClient().get_run(home.run_id).info.status == "FAILED"
