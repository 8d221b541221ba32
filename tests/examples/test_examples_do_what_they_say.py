"""Each example does in its tracker and its journal what its first line says, and is short enough to read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from rldk.errors import NoPPOError
from rldk.ingest import ingest_runs
from rldk.integrations.trl.ppo import ppo_class
from rldk.journal import read
from rldk.verify import verify
from rldk_wandb.offline import WandbFile
from tests.examples.conftest import EXAMPLES, QUIET

SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != "tiny.py")
PAGE = (EXAMPLES.parent / "docs" / "examples.md").read_text()
STEPS = list(range(1, 33))

real = pytest.mark.real


def events(done, kind):
    """The events of one kind in the example's journal."""
    told = [entry.event for entry in read(done.journal)]
    return [event for event in told if event.kind == kind]


def is_whole(done, trainer):
    """Check that the run is whole and ended well, and that the example says where to look next."""
    table = ingest_runs(done.journal)
    assert set(table["step"]) == set(STEPS)
    assert events(done, "run")[0].model_info["trainer"] == trainer
    assert events(done, "end")[0].model_info["status"] == "FINISHED"
    for path in re.findall(rf"{re.escape(str(done.folder))}\S+\.(?:html|jsonl|toml)\b", done.said):
        assert list(done.folder.glob(str(path).removeprefix(f"{done.folder}/"))), path
    return table


def has_ppo():
    """Whether the installed TRL still has PPO."""
    try:
        return ppo_class() is not None
    except NoPPOError:
        return False


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_each_is_short_and_listed(script):
    """Under 60 lines, with the command that runs it at the top; the page lists it."""
    text = script.read_text()
    assert len(text.splitlines()) < 60
    assert ast.get_docstring(ast.parse(text)).count(f"python examples/{script.name}") == 1
    assert f"(../examples/{script.name})" in PAGE


def test_the_page_lists_nothing_else():
    """Each link leads somewhere."""
    for target in re.findall(r"\]\((\.\./examples/[^)#]*)\)", PAGE):
        assert (EXAMPLES.parent / "docs" / target).exists(), target


@real
def test_grpo_as_a_reader_runs_it():
    """With nothing but the command: a folder of its own, the table, and what to look at next."""
    command = [sys.executable, str(EXAMPLES / "grpo.py")]
    done = subprocess.run(command, env=QUIET, capture_output=True, text=True, check=True)
    journal = re.search(r"rldk check (\S+)", done.stdout)[1]
    assert ingest_runs(journal)["step"].tolist() == STEPS
    assert "reward_mean" in done.stdout


@real
def test_dpo(run_example):
    """Preferences, and evaluations in rows of their own."""
    table = is_whole(run_example("dpo"), "DPO")
    assert table.loc[table["phase"] == "eval", "step"].tolist() == [16, 32]
    assert table["pref_accuracy"].notna().all()


@real
@pytest.mark.skipif(not has_ppo(), reason="this TRL has no PPO")
def test_ppo(run_example):
    """The loss is worked out, the gradient norm measured."""
    table = is_whole(run_example("ppo"), "PPO")
    assert table[["loss", "grad_norm", "kl_seq_mean"]].notna().all(axis=None)


@real
@pytest.mark.skipif(has_ppo(), reason="this TRL has PPO")
def test_ppo_where_trl_has_none(run_example):
    """One line says what to install; nothing is trained."""
    done = run_example("ppo", code=1)
    assert re.fullmatch(r"ppo\.py: TRL \S+ has no PPOTrainer, .*pip install 'trl<=1\.12\.0'\n", done.said)


@real
def test_wandb_beside_report_to(run_example):
    """One offline run holds both, and gives back the journal's table."""
    done = run_example("wandb_beside_report_to")
    is_whole(done, "GRPO")
    [run] = done.folder.glob("wandb/offline-run-*")
    keys = {key for row in WandbFile(next(run.glob("*.wandb"))).rows() for key in row}
    assert {"train/reward", "rldk/reward_mean", "rldk/step"} <= keys
    assert "as in the journal: True" in done.said
    assert verify(str(done.journal), str(run)).counts == {}


@real
def test_mlflow_server(run_example, mlflow_server):
    """The run that the script opened holds every point, its verdict and its report."""
    from mlflow import MlflowClient

    done = run_example("mlflow_server", MLFLOW_TRACKING_URI=mlflow_server)
    is_whole(done, "GRPO")
    [run_id] = re.findall(r"#runs/(\w+)", done.said)
    run = MlflowClient(mlflow_server).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert "rldk.health" in run.data.tags
    files = MlflowClient(mlflow_server).list_artifacts(run_id, "rldk")
    assert any(file.path.endswith("_report.html") for file in files)
    assert verify(str(done.journal), f"{mlflow_server}#runs/{run_id}").counts == {}


def test_mlflow_server_without_an_address(run_example):
    """It says what to set."""
    done = run_example("mlflow_server", code=1)
    assert done.said.splitlines()[-1].startswith("mlflow_server.py: set MLFLOW_TRACKING_URI")


@real
def test_custom_metrics(run_example):
    """Both kinds are columns, in the rows in which the reward was measured."""
    table = is_whole(run_example("custom_metrics"), "GRPO")
    scored = table[table["reward_mean"].notna()]
    assert scored[["distinct_words", "style/repeats", "reward_per_token"]].notna().all(axis=None)
    assert scored["distinct_words"].between(1, 15).all()
    assert table["distinct_words"].notna().sum() == len(scored) == len(STEPS) // 2


@real
def test_resume(run_example):
    """A run that was killed at step 20 and went on at 16 is one run, with each step once."""
    done = run_example("resume")
    assert "ended by signal 9" in done.said
    is_whole(done, "GRPO")
    assert [(e.segment, e.step) for e in events(done, "run")] == [(0, 0), (1, 16)]
    assert ingest_runs(done.journal)["step"].tolist() == STEPS


@real
def test_ingest_and_plot(run_example):
    """It records a run where there is none, and draws six plots of it."""
    image = pytest.importorskip("matplotlib.image")
    done = run_example("ingest_and_plot")
    pixels = image.imread(done.folder / "plots.png")
    assert pixels.shape[:2] == (845, 1560)
    assert len({tuple(pixel) for pixel in pixels[::4, ::4].reshape(-1, 4).tolist()}) > 20
    is_whole(done, "GRPO")


@real
def test_sync(run_example):
    """Nothing reaches the tracker in training, and everything later."""
    done = run_example("sync")
    is_whole(done, "GRPO")
    assert re.search(r"\d\d events wait in", done.said)
    assert "with the numbers of the journal: True" in done.said
    assert verify(str(done.journal), f"sqlite:///{done.folder}/mlflow.db").counts == {}


@real
def test_custom_rule(run_example):
    """Both rules fire, with their own words, in the journal and in the function that is told."""
    done = run_example("custom_rule")
    is_whole(done, "GRPO")
    alerts = {name: event for event in events(done, "alert") for name in event.metrics if event.metrics[name]}
    assert {"few_words", "judge_broken"} <= set(alerts)
    assert "distinct words" in alerts["few_words"].notes[0]
    assert alerts["judge_broken"].notes[0] == "Judge broken: the judge gave nan"
    assert f"ALERT at step {alerts['few_words'].step}: Few words" in done.said
