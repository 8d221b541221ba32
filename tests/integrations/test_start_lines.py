"""When training begins, a line each tells which run this is, where it goes, and what will not be seen."""

from __future__ import annotations

import logging

import pytest

from rldk import bridge
from rldk.health.foresight import Plan, foresee
from rldk.health.rules import built_in
from rldk.identity import Identity
from rldk.integrations.trl import RLDKCallback
from rldk.integrations.trl.opening import Opening, Start
from rldk.integrations.trl.watch import Wanted
from rldk.journal import last_event, read
from rldk.recorder import Run

real = pytest.mark.real


def lines(caplog):
    """What was said at level INFO when recording began."""
    heads = ("run ", "trackers: ", "health: ", "report_to: ")
    said = [record for record in caplog.records if record.name == "rldk.integrations.trl.opening"]
    return [r.getMessage() for r in said if r.levelno == logging.INFO and r.getMessage().startswith(heads)]


def with_an_o(completions, **_):
    """Reward: whether there is an o."""
    return [float("o" in text) for text in completions]


@pytest.fixture
def train(grpo, tmp_path, caplog):
    """Train with a callback of these parameters; gives it, its lines, and the rules of the run's end."""

    def trained(callback_options=None, **options):
        callback = RLDKCallback(output_dir=tmp_path / "rldk", **(callback_options or {}))
        with caplog.at_level(logging.INFO, logger="rldk"):
            grpo([callback], **options).train()
        return callback, lines(caplog), last_event(callback.journal_path).model_info["health"]["rules"]

    return trained


@real
def test_without_a_tracker_the_journal_is_alone(train, caplog):
    """A warning what to do, and four lines: the run and who named it, no tracker, the rules, report_to."""
    callback, said, _ = train({"run_id": "mine"})
    run, trackers, health, report_to = said
    (warning,) = (each.getMessage() for each in caplog.records if "active run" in each.getMessage())
    assert warning.startswith("no tracker has an active run, so that the journal alone is written (call")
    assert warning.endswith(f": {callback.journal_path}")
    assert run == f"run mine (from the run_id argument), journal {callback.journal_path}"
    assert trackers == "trackers: none, the journal alone"
    assert "blind: kl_drift (beta is 0" in health
    assert "checkpoint_dead_layers (no checkpoint is saved (save_strategy=no))" in health
    assert "too short a run for: grad_norm_spike, zero_gradients" in health
    assert "(first verdict at step 5 to 20)" in health
    assert "nothing to judge: nonfinite_eval" in health
    assert len(health) < 700
    assert report_to == "report_to: nothing, so that this run is in the journal alone"


@real
def test_the_rules_that_were_foreseen_as_blind_are_those_that_never_judge(train):
    """The line's foresight, made of arguments alone, and the run's end agree on each rule."""
    callback, _, rules = train(max_steps=12, logging_steps=2, reward=with_an_o)  # a share of success
    run = next(entry.event for entry in read(callback.journal_path))
    facts = run.model_info
    plan = Plan("GRPO", facts["args"], facts["versions"]["trl"], max_steps=12)
    foreseen = {each.rule for each in foresee(built_in(), plan) if each.outlook in {"blind", "short", "moot"}}
    unjudged = {line["rule"] for line in rules if line["applies"] and line["points"] == 0}
    assert foreseen - {"memory_creep", "hang"} == unjudged - {"memory_creep", "hang"}  # which take their time
    assert {"kl_drift", "stall", "entropy_collapse"} <= foreseen


@real
def test_a_shared_run_is_told(train, mlflow_db):
    """The trainer's own MLflow callback has opened the run: both write there, under names of their own."""
    import mlflow

    _, said, _ = train(report_to=["mlflow"])
    run_id = mlflow.last_active_run().info.run_id
    assert f"trackers: mlflow run {run_id} (the active one)" in said
    assert "report_to: mlflow, where RLDK writes to the same run; its names begin with rldk/" in said


@pytest.fixture
def say(caplog, tmp_path):
    """Say the lines of a start with these sinks and this report_to, without a training; gives them."""

    def said(sinks=(), report_to=(), rank=0, level=logging.INFO):
        facts = {"args": {}, "report_to": list(report_to)}
        run = Run(run_id="r", trainer="GRPO", rank=rank, trl="1.16.0", facts=facts)
        start = Start(
            Identity("r", "a test"), run, tmp_path / "r_events.jsonl", sinks, (), 0, 100, is_training=True
        )
        with caplog.at_level(level, logger="rldk.integrations.trl.opening"):
            Opening(built_in(), Wanted(resources=True, checkpoints=True, missing=True, interval_s=15.0)).say(
                start
            )
        return lines(caplog)

    return said


def test_runs_apart_are_told(say):
    """A tracker that RLDK writes to on a run of its own, and one that the trainer alone writes to."""
    told = say([bridge.sink("mlflow").create()], ["mlflow", "wandb"])
    assert "trackers: mlflow run (of its own)" in told
    assert "report_to: mlflow, where the trainer and RLDK write to runs of their own" in told
    assert "report_to: wandb, where the trainer writes and RLDK does not" in told


def test_a_tracker_of_rldks_alone_is_told(say):
    """The trainer reports to nothing."""
    told = say([bridge.sink("mlflow").create()])
    assert "report_to: nothing, so that this run is in mlflow alone" in told


def test_other_ranks_say_nothing(say):
    """The main process speaks for all."""
    assert say(rank=1) == []


def test_another_callback_says_the_same_lines(say):
    """Of its own trainings, which nobody could tell the trackers and rules of otherwise."""
    once = say()
    assert say() == [*once, *once]


def test_nobody_listens_and_nothing_is_worked_out(say, monkeypatch):
    """Where no line would be seen, the rules are not rehearsed."""
    monkeypatch.setattr("rldk.integrations.trl.opening.foresee", lambda *_: pytest.fail("was asked"))
    assert say(level=logging.WARNING) == []


@real
def test_a_loop_of_resumes_says_each_line_once(grpo, tmp_path, caplog):
    """The same callback trains on and on; what is new is the step it goes on from."""
    callback = RLDKCallback(output_dir=tmp_path / "rldk", run_id="loop")
    with caplog.at_level(logging.INFO, logger="rldk"):
        for steps in (1, 2, 3):
            trainer = grpo([callback], max_steps=steps, save_strategy="steps", save_steps=1)
            trainer.train(resume_from_checkpoint=steps > 1)
    said = lines(caplog)
    assert len(said) == len(set(said))
    assert [line for line in said if "goes on" in line] == [
        "run loop goes on from step 1",
        "run loop goes on from step 2",
    ]
