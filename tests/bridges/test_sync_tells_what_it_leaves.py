"""`rldk sync` is silent about nothing: what it did not send, where the run is, and what was refused."""

from __future__ import annotations

import json

import pytest

from rldk.cursor import CursorFile
from rldk.errors import SinkRejectedError
from rldk_mlflow.sink import MLflowSink
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401
from tests.bridges._wandb_runs import finished, wandb_offline  # noqa: F401

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


def artifacts(path):
    """What MLflow has of the run in RLDK's folder."""
    from mlflow import MlflowClient

    run_id = CursorFile(path, "mlflow").load().tracker_run
    return {file.path for file in MlflowClient().list_artifacts(run_id, "rldk")}


def test_a_damaged_line_is_counted(tmp_path):
    """It cannot be sent, and that is said."""
    path = record(tmp_path / "run", range(3))
    path.write_bytes(path.read_bytes().replace(b'"kind":"metrics"', b'"kind";"metrics"', 1))
    done = rldk("sync", path, "--to", "mlflow")
    assert "1 lines hold no event and were not sent" in done.output


def test_a_refused_event_is_told_again(tmp_path, monkeypatch):
    """A loop that calls until all is well does not end on a loss."""
    path = record(tmp_path / "run", range(3))
    send = MLflowSink.send

    def refuse(self, events):
        if any(event.seq == 2 for event in events):
            raise SinkRejectedError("not this one")
        send(self, events)

    with monkeypatch.context() as patched:
        patched.setattr(MLflowSink, "send", refuse)
        assert "1 refused" in rldk("sync", path, "--to", "mlflow").output
    again = rldk("sync", path, "--to", "mlflow")
    assert (again.exit_code, "1 refused" in again.output) == (1, True)
    assert rldk("sync", path, "--to", "mlflow", "--again").exit_code == 0


def test_where_the_run_is_already_is_told(tmp_path):
    """And --again asks the tracker instead of believing what was noted."""
    path = record(tmp_path / "run", range(3))
    rldk("sync", path, "--to", "mlflow")
    home = CursorFile(path, "mlflow").load().source
    assert f"has it already; {home}" in rldk("sync", path, "--to", "mlflow").output
    assert "0 waiting" in rldk("sync", path, "--to", "mlflow", "--again").output


def test_files_of_a_run_with_a_longer_name_stay_its_own(tmp_path):
    """Two journals in a folder, of which one's name begins like the other's."""
    path = record(tmp_path / "runs", range(2), run_id="run")
    record(tmp_path / "runs", range(2), run_id="run_2")
    rldk("sync", path, "--to", "mlflow")
    assert "rldk/run_events.jsonl" in artifacts(path)
    assert not any("run_2" in file for file in artifacts(path))


def test_two_sources_of_one_relative_name_are_two(tmp_path, monkeypatch):
    """The copy belongs to the file, not to how it was named."""
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        rows = [{"step": i, "loss": number + i, "run_id": f"run-{folder}"} for i in range(3)]
        (tmp_path / folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.chdir(tmp_path / folder)
        done = rldk("sync", "log.jsonl", "--to", "mlflow")
        assert f"run-{folder}: 4 events sent" in done.output, done.output


def test_points_that_come_in_between_are_told(tmp_path):
    """A run that is filled up later: the first call says so, the second with --again sends them."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    run = client.create_run("0").info.run_id
    client.log_batch(run, [Metric("loss", i, 1_763_847_600_000 + i * 1000, i) for i in range(5)])
    source = f"sqlite:///{tmp_path}/mlflow.db#runs/{run}"
    assert rldk("sync", source, "--to", "wandb").exit_code == 0
    client.log_batch(run, [Metric("late", 1, 1_763_847_600_500, 0)])
    assert "1 events have come between" in rldk("sync", source, "--to", "wandb").output


def test_what_may_hold_secrets_stays(tmp_path):
    """The output of a W&B run is not uploaded elsewhere."""
    import wandb

    run = wandb.init(project="p")
    run.log({"loss": 1})
    folder = finished(run)
    (folder / "files" / "output.log").write_text("key sk-ABCDEFGHIJKLMNOPQRSTUVWX")
    (folder / "files" / "wandb-metadata.json").write_text('{"args": ["--token", "hunter2"]}')
    assert rldk("sync", folder, "--to", "mlflow").exit_code == 0
    uploaded = [path.name for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    assert not {"output.log", "wandb-metadata.json"} & set(uploaded)


def test_a_run_is_not_copied_onto_itself(tmp_path):
    """The same tracker and project: refused, with what to give."""
    import wandb

    run = wandb.init(project="p")
    run.log({"loss": 1})
    folder = finished(run)
    for into in ((), ("--into", "p")):
        done = rldk("sync", folder, "--to", "wandb", *into)
        assert (done.exit_code, "into=" in done.output) == (2, True)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1


def test_no_run_of_the_project_is_told(tmp_path):
    """A name that was mistyped does not end in silence."""
    path = record(tmp_path / "run", range(2))
    done = rldk("sync", path, "--project", "typo", "--to", "mlflow")
    assert (done.exit_code, "--project='typo' cannot be used" in done.output) == (2, True)


def test_a_home_without_points_does_not_agree_with_one_that_has_some(tmp_path):
    """All of them are extra."""
    path = record(tmp_path / "run", range(2))
    head = tmp_path / "head" / path.name
    head.parent.mkdir()
    head.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert rldk("verify", head, path).exit_code == 1
