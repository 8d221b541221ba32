"""EventWriterCallback writes what a trainer logs, one metric a line of strict JSON."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState

from rldk.adapters import long_format
from rldk.integrations.trl import EventWriterCallback, event_writer


@pytest.fixture
def write(tmp_path):
    """Have a trainer log something; gives the lines that were written."""

    def make(logs, trainer="PPO", step=3, **options):
        config = type(f"{trainer}Config", (SimpleNamespace,), {})
        args = config(run_name=None, output_dir="out", vf_coef=0.1)
        callback = EventWriterCallback(tmp_path / "log.jsonl", **({"run_id": "r"} | options))
        state = TrainerState(global_step=step)
        callback.on_train_begin(args, state, TrainerControl())
        callback.on_log(args, state, TrainerControl(), logs=logs)
        callback.on_train_end(args, state, TrainerControl())
        assert callback.errors == 0
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        return [json.loads(line, parse_constant=pytest.fail) for line in lines]

    return make


def by_name(lines):
    """The value of each name."""
    return {line["name"]: line["value"] for line in lines}


def test_a_line_tells_all_that_a_reader_needs(write):
    """When, which step, what, how much, of which run, and in meta what the number is."""
    before = time.time()
    (line,) = write({"objective/kl": 0.5}, tags={"team": "a"})
    assert before - 1 < line.pop("time") < time.time() + 1
    assert line == {
        "step": 3,
        "name": "kl",
        "value": 0.5,
        "run_id": "r",
        "tags": {"team": "a"},
        "meta": {
            "source": "trl",
            "trainer": "PPO",
            "segment": 0,
            "raw_name": "objective/kl",
            "phase": "train",
            "metric": "kl_seq_mean",
            "unit": "nats/sequence",
        },
    }


def test_ppo_has_the_guides_names(write):
    """The same as every other trainer, for the same quantities."""
    logs = {"objective/kl": 1, "objective/scores": 2, "policy/entropy_avg": 3, "policy/clipfrac_avg": 4}
    assert by_name(write(logs | {"lr": 5, "grad_norm": 6})) == {
        "kl": 1,
        "reward_mean": 2,
        "entropy": 3,
        "clip_frac": 4,
        "lr": 5,
        "grad_norm_policy": 6,
    }


def test_what_is_derived_has_no_raw_name(write, monkeypatch):
    """PPO's loss follows from its parts and vf_coef; no key of the log holds it."""
    monkeypatch.setattr(event_writer, "_trl", lambda: "1.12.0")
    lines = write({"loss/policy_avg": 5, "loss/value_avg": 10})
    assert by_name(lines) == {"policy_loss": 5, "value_loss": 10, "loss": 6}
    assert lines[-1]["meta"]["unit"] == "1"
    assert "raw_name" not in lines[-1]["meta"]


def test_the_trainers_of_transformers_have_the_guides_names(write):
    """The same names for the same quantities."""
    told = write({"kl": 1, "reward": 2, "reward_std": 3, "entropy": 4, "grad_norm": 5, "loss": 6}, "GRPO")
    assert by_name(told) == {
        "kl": 1,
        "reward_mean": 2,
        "reward_std": 3,
        "entropy": 4,
        "grad_norm_policy": 5,
        "loss": 6,
    }
    assert told[0]["meta"]["unit"] == "nats/token"


def test_old_ppo_keys_have_the_guides_names(write):
    """As the trainers of older TRL logged them."""
    logs = {
        "ppo/policy/kl_mean": 1,
        "ppo/rewards/mean": 2,
        "ppo/policy/entropy": 3,
        "ppo/policy/grad_norm": 4,
        "ppo/policy/clipfrac": 5,
        "ppo/loss/policy": 6,
        "ppo/loss/value": 7,
        "ppo/policy/approxkl": 8,
        "ppo/returns/mean": 9,
        "ppo/mean_non_score_reward": 10,
    }
    assert by_name(write(logs)) == {
        "kl": 1,
        "reward_mean": 2,
        "entropy": 3,
        "grad_norm_policy": 4,
        "clip_frac": 5,
        "policy_loss": 6,
        "value_loss": 7,
        "approx_kl_update": 8,
        "return_mean": 9,
        "reward_kl_penalty_token_mean": 10,
    }


def test_no_two_quantities_of_a_log_share_a_name(write):
    """The second one keeps the longer name, and an old key that has no name left its own."""
    told = write({"kl_mean": 1, "objective/kl": 2, "objective/scores": 3, "ppo/rewards/mean": 4})
    assert by_name(told) == {"kl": 2, "kl_mean": 1, "reward_mean": 3, "ppo/rewards/mean": 4}


def test_a_key_that_nobody_knows_keeps_its_name(write):
    """And its raw name says the same."""
    (line,) = write({"my/metric": 1})
    assert (line["name"], line["meta"]["raw_name"]) == ("my/metric", "my/metric")


def test_broken_values_are_written_and_missing_ones_are_not(write):
    """NaN and the infinities by name; None, text and lists are no measurements."""
    logs = {"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": None, "e": "x", "f": [1], "g": 0}
    assert by_name(write(logs)) == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "g": 0}


def test_numbers_of_every_kind_are_written(write):
    """Scalars of numpy and torch, and what is nested."""
    logs = {"a": np.float64(0.1), "b": torch.tensor([2.0]), "c": {"d": np.int64(3)}}
    assert by_name(write(logs)) == {"a": 0.1, "b": 2.0, "c/d": 3}


def test_evaluation_has_the_same_names_in_another_phase(write):
    """The raw name tells the prefix."""
    lines = write({"eval_reward": 1, "eval_loss": 2}, "GRPO")
    assert by_name(lines) == {"reward_mean": 1, "loss": 2}
    assert [(line["meta"]["phase"], line["meta"]["raw_name"]) for line in lines] == [
        ("eval", "eval_reward"),
        ("eval", "eval_loss"),
    ]


def test_the_summary_is_marked_as_no_step(write):
    """What train() tells when it ends is of kind end."""
    lines = write({"train_runtime": 9, "train_loss": 1, "reward": 2}, "GRPO")
    assert {line["name"]: line["meta"].get("kind") for line in lines} == {
        "reward_mean": None,
        "train_runtime": "end",
        "train_loss": "end",
    }


def test_the_log_itself_is_not_changed(write):
    """Other callbacks get the same dict."""
    logs = {"reward": 1, "x": {"y": None}}
    write(logs)
    assert logs == {"reward": 1, "x": {"y": None}}


def test_tags_may_hold_anything(write):
    """What JSON has no word for is written as text."""
    tags = {"when": complex(1), "rate": float("nan"), 3: ["a"]}
    assert write({"x": 1}, tags=tags)[0]["tags"] == {"when": "(1+0j)", "rate": "NaN", "3": ["a"]}


def test_every_short_name_is_known_to_the_reader():
    """Even where somebody strips meta, a name comes back as one of the quantities it may be."""
    for metric, short in long_format.SHORT_NAMES.items():
        line = long_format.Line(step=1, name=short, value=1)
        assert long_format.metric_of(line) in {metric, "kl_mean"}
