"""A run goes from one tracker into the other with all that belongs to it, whoever logged it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rldk.verify import verify
from rldk_wandb.adapter import WandbAdapter
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401
from tests.bridges._wandb_runs import finished, forget_wandb, wandb_offline  # noqa: F401

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("mlflow_db")]


def somebodys_wandb_run(**settings):
    """A run that knows nothing of RLDK, as a script leaves it offline; its folder."""
    import wandb

    config = {"lr": 0.1, "net": {"layers": 2}, "api_key": "0123456789abcdef0123456789abcdef01234567"}
    run = wandb.init(config=config, tags=["good"], notes="my notes", name="my run", **settings)
    for step in range(5):
        loss = float("nan") if step == 2 else 1 / (step + 1)
        run.log({"train/loss": loss, "train/acc": step / 10, "text": "hello"})
    run.summary["best/acc"] = 0.9
    return str(finished(run))


def somebodys_mlflow_run(name="my experiment"):
    """A run that knows nothing of RLDK; its id."""
    import mlflow

    known = mlflow.get_experiment_by_name(name)
    experiment = known.experiment_id if known else mlflow.create_experiment(name)
    told = {"run_name": "my run", "description": "my notes", "tags": {"team": "red"}}
    with mlflow.start_run(experiment_id=experiment, **told) as run:
        mlflow.log_params({"lr": 0.1, "prompt": "x" * 300})
        for step in range(5):
            loss = float("nan") if step == 2 else 1 / (step + 1)
            mlflow.log_metrics({"loss": loss, "acc": step / 10}, step=step)
        mlflow.log_text("weights", "model/weights.txt")
    return run.info.run_id


def mlflow_runs():
    """All runs in MLflow, the newest first."""
    from mlflow import MlflowClient

    client = MlflowClient()
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def the_wandb_folder(tmp_path):
    """The one W&B run folder."""
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    return folder


def test_a_wandb_folder_goes_into_mlflow(tmp_path):
    """Points, config, tags, notes, name, summary, status and files."""
    folder = somebodys_wandb_run(project="my project")
    done = rldk("sync", folder, "--to", "mlflow")
    assert done.exit_code == 0, done.output
    (run,) = mlflow_runs()
    assert verify(folder, f"sqlite:///{tmp_path}/mlflow.db#runs/{run.info.run_id}").agrees
    assert run.data.params["lr"] == "0.1"
    assert run.data.params["net.layers"] == "2"
    assert "0123456789abcdef" not in str(run.data.to_dictionary())
    assert run.data.metrics["train/acc"] == 0.4
    assert run.data.metrics["best/acc"] == 0.9
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    assert run.data.tags["mlflow.note.content"] == "my notes"
    assert "good" in run.data.tags
    from mlflow import MlflowClient

    assert MlflowClient().get_experiment(run.info.experiment_id).name == "my project"


def test_an_mlflow_run_goes_into_wandb(tmp_path):
    """The import that W&B took out of its own library."""
    run_id = somebodys_mlflow_run()
    source = f"sqlite:///{tmp_path}/mlflow.db#runs/{run_id}"
    done = rldk("sync", source, "--to", "wandb")
    assert done.exit_code == 0, done.output
    folder = the_wandb_folder(tmp_path)
    assert verify(source, str(folder)).agrees
    told = next(WandbAdapter(str(folder)).events()).model_info
    assert told["config"]["lr"] == "0.1"
    assert told["config"]["prompt"] == "x" * 300
    assert (told["name"], told["notes"], told["project"]) == ("my run", "my notes", "my experiment")
    assert "team" in str(told)
    files = WandbAdapter(str(folder)).files(tmp_path / "files")
    assert any(list(entry.rglob("weights.txt")) for entry in files if entry.is_dir())


def test_there_and_back_again_changes_nothing(tmp_path, monkeypatch):
    """W&B to MLflow to W&B: the points and the config are those of the beginning."""
    folder = somebodys_wandb_run(project="my project")
    assert rldk("sync", folder, "--to", "mlflow").exit_code == 0
    (run,) = mlflow_runs()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "back"))
    (tmp_path / "back").mkdir()
    forget_wandb()
    assert (
        rldk("sync", f"sqlite:///{tmp_path}/mlflow.db#runs/{run.info.run_id}", "--to", "wandb").exit_code == 0
    )
    verdict = verify(folder, str(the_wandb_folder(tmp_path / "back")))
    assert set(verdict.counts) <= {"best/acc"}  # a summary becomes a metric


def test_an_interrupted_sync_goes_on(tmp_path):
    """What a run gained since it was copied is sent with the next call, and nothing twice."""
    import mlflow

    run_id = somebodys_mlflow_run()
    source = f"sqlite:///{tmp_path}/mlflow.db#runs/{run_id}"
    assert rldk("sync", source, "--to", "wandb").exit_code == 0
    assert "has it already" in rldk("sync", source, "--to", "wandb").output
    with mlflow.start_run(run_id):
        mlflow.log_metric("loss", 0.01, step=9)
    assert rldk("sync", source, "--to", "wandb").exit_code == 0
    newest = max(tmp_path.glob("wandb/offline-run-*"))
    assert verify(source, str(newest)).agrees


def test_an_experiment_goes_at_once(tmp_path):
    """--experiment names it; each of its runs, and none of another's."""
    ids = [somebodys_mlflow_run(), somebodys_mlflow_run()]
    somebodys_mlflow_run("another experiment")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    done = rldk("sync", store, "--experiment", "my experiment", "--to", "wandb")
    assert done.exit_code == 0, done.output
    folders = {path.name.split("-", 3)[3] for path in tmp_path.glob("wandb/offline-run-*")}
    assert folders == set(ids)


def test_a_project_goes_at_once(tmp_path):
    """--project picks the runs of a folder that are of it."""
    wanted = somebodys_wandb_run(project="wanted")
    somebodys_wandb_run(project="unwanted")
    done = rldk("sync", tmp_path / "wandb", "--project", "wanted", "--to", "mlflow")
    assert done.exit_code == 0, done.output
    (run,) = mlflow_runs()
    assert run.data.tags["rldk.run_id"] == Path(wanted).name.split("-", 3)[3]


def test_a_run_of_rldk_keeps_its_table_on_the_way(tmp_path):
    """Journal to W&B to MLflow: the table is the journal's."""
    from rldk.compare import differing_cells
    from rldk.ingest import ingest_runs

    path = record(tmp_path / "run", range(5))
    assert rldk("sync", path, "--to", "wandb").exit_code == 0
    assert rldk("sync", the_wandb_folder(tmp_path), "--to", "mlflow").exit_code == 0
    (run,) = mlflow_runs()
    there = f"sqlite:///{tmp_path}/mlflow.db#runs/{run.info.run_id}"
    assert verify(str(path), there).agrees
    assert not sum(differing_cells(ingest_runs(path), ingest_runs(there)).values())


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_dry_run_of_a_foreign_run_tells_what_would_change(tmp_path, tracker):
    """Names and values that the target cannot keep are named; nothing is written."""
    source = somebodys_wandb_run(project="p") if tracker == "mlflow" else None
    source = source or f"sqlite:///{tmp_path}/mlflow.db#runs/{somebodys_mlflow_run()}"
    before = sorted(tmp_path.rglob("*"))
    told = rldk("sync", source, "--to", tracker, "--dry-run")
    assert told.exit_code == 0, told.output
    assert sorted(tmp_path.rglob("*")) == before
    assert "10 numbers" in told.output or "11 numbers" in told.output


def test_a_log_that_tells_no_times_goes_into_mlflow(tmp_path):
    """As one of the long format may be: its events get times, and their seconds since the run began."""
    log = tmp_path / "timeless.jsonl"
    log.write_text("".join(f'{{"step": {n}, "name": "kl", "value": {n / 2}}}\n' for n in range(3)))
    done = rldk("sync", log, "--to", "mlflow")
    assert done.exit_code == 0, done.output
    assert mlflow_runs()[0].data.metrics["rldk/kl_mean"] == 1.0
