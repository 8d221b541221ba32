"""`rldk sync` asks the tracker whether it still has what was delivered, and sends a lost run anew."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from rldk.cursor import CursorFile
from rldk.verify import verify
from tests._wandb_backend import forget_wandb
from tests.bridges._journals import cache_of_its_own, record, rldk  # noqa: F401

pytestmark = pytest.mark.real


def home_of(path, tracker="mlflow"):
    """Where the tracker has the run."""
    return CursorFile(path, tracker).load().source


@pytest.fixture
def empty(mlflow_db, empty_mlflow_db, tmp_path):
    """Replace what is in MLflow's database by one without runs; this process has its file open."""

    def replace():
        with closing(sqlite3.connect(empty_mlflow_db)) as new, closing(sqlite3.connect(there)) as old:
            new.backup(old)

    there = tmp_path / "mlflow.db"
    return replace


def test_a_database_that_was_replaced_gets_the_run_anew(tmp_path, empty):
    """All of it, which is said in a line; a third call has nothing to do."""
    path = record(tmp_path / "run", range(5))
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    old = home_of(path)
    empty()
    done = rldk("sync", path, "--to", "mlflow", "--patience", "5")
    assert done.exit_code == 0, done.output
    count = len(path.read_text().splitlines())
    assert f"rosy-run: mlflow has it no more at {old}, sent anew: {count} events sent," in done.output, (
        done.output
    )
    assert home_of(path) != old
    assert verify(path, home_of(path)).agrees
    again = rldk("sync", path, "--to", "mlflow", "--json")
    (told,) = json.loads(again.stdout)["runs"]
    assert (told["delivered"], told["lost"], told["home"]) == (0, None, home_of(path))
    assert verify(path, home_of(path)).agrees


def test_a_copy_is_sent_anew_too(tmp_path, empty):
    """Of what is no journal; one run of the file is lost, the other not yet sent."""
    table = tmp_path / "two.csv"
    table.write_text("run_id,step,loss\nalpha,1,0.5\nbeta,1,0.25\n")
    assert rldk("sync", table, "--to", "mlflow", "--runs", "alpha").exit_code == 0
    empty()
    done = rldk("sync", table, "--to", "mlflow", "--json")
    assert done.exit_code == 0, done.output
    alpha, beta = json.loads(done.stdout)["runs"]
    assert (bool(alpha["lost"]), alpha["delivered"], beta["lost"]) == (True, 2, None)
    assert verify(table, alpha["home"], runs=("alpha", None)).agrees


def test_a_run_that_went_on_meanwhile_is_sent_whole(tmp_path, empty):
    """Not only what is new."""
    path = record(tmp_path / "run", range(5))
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    record(tmp_path / "run", range(5, 8))
    empty()
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    assert verify(path, home_of(path)).agrees


def test_the_run_in_which_the_training_began_may_be_the_lost_one(tmp_path, empty):
    """Then it goes into another."""
    from mlflow import MlflowClient

    theirs = MlflowClient().create_run("0").info.run_id
    path = record(tmp_path / "run", range(3), tracker_runs={"mlflow": theirs})
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    empty()
    done = rldk("sync", path, "--to", "mlflow", "--patience", "5")
    assert done.exit_code == 0, done.output
    assert theirs not in home_of(path)
    assert verify(path, home_of(path)).agrees


@pytest.mark.usefixtures("mlflow_db")
def test_a_database_file_that_is_gone_is_not_made_to_be_asked(tmp_path):
    """It holds nothing."""
    path = record(tmp_path / "run", range(3))
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    (tmp_path / "mlflow.db").rename(tmp_path / "moved.db")
    from rldk_mlflow.sink import MLflowSink

    assert MLflowSink.holds(CursorFile(path, "mlflow").load().target) is False
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_does_not_answer_is_no_loss(tmp_path, mlflow_db, free_port):
    """Nothing is sent; that it was not asked is told, beside what was noted."""
    path = record(tmp_path / "run", range(3))
    assert rldk("sync", path, "--to", "mlflow").exit_code == 0
    file = CursorFile(path, "mlflow")
    dead = f"http://127.0.0.1:{free_port}"
    file.path.write_text(file.path.read_text().replace(mlflow_db, dead))
    done = rldk("sync", path, "--to", "mlflow")
    assert (done.exit_code, "has it already" in done.stdout) == (0, True)
    assert f"mlflow does not tell whether it still has {dead}" in done.stderr


def test_a_wandb_server_that_lost_the_run_gets_it_anew(tmp_path, wandb_backend):
    """What it answers to a name that it does not know."""
    path = record(tmp_path / "run", range(3))
    assert rldk("sync", path, "--to", "wandb").exit_code == 0
    assert "has it already" in rldk("sync", path, "--to", "wandb").output
    wandb_backend.runs.clear()
    forget_wandb()
    done = rldk("sync", path, "--to", "wandb")
    assert (done.exit_code, "wandb has it no more" in done.output) == (0, True), done.output
    assert verify(path, home_of(path, "wandb")).agrees


def test_a_wandb_folder_that_was_cleaned_up_is_believed(tmp_path, monkeypatch):
    """As after `wandb sync --clean`: to send it anew would double it on the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = record(tmp_path / "run", range(3))
    assert rldk("sync", path, "--to", "wandb").exit_code == 0
    assert rldk("sync", path, "--to", "wandb").stderr == ""
    shutil.rmtree(home_of(path, "wandb"))
    done = rldk("sync", path, "--to", "wandb")
    assert (done.exit_code, "has it already" in done.stdout) == (0, True)
    assert "wandb does not tell whether it still has" in done.stderr
