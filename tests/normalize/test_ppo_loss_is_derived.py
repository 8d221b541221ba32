"""PPO logs the parts of its loss; the whole follows from them and `vf_coef`, and from nothing else."""

from __future__ import annotations

import math

import pytest

from rldk.normalize import derived, normalize

PARTS = {"loss/policy_avg": 0.5, "loss/value_avg": 2.0}


def test_the_whole_is_the_sum_of_its_parts():
    """As PPOTrainer computes it, on each micro-batch and so on their mean."""
    assert normalize(PARTS, "PPO", {"vf_coef": 0.1}).train["loss"] == pytest.approx(0.7)


def test_it_follows_in_a_recording(logs_of):
    """Every log of a real run has what it takes."""
    for logs in logs_of("1.12.0_ppo"):
        loss = normalize(logs, "PPO", {"vf_coef": 0.1}).train["loss"]
        assert loss == logs["loss/policy_avg"] + 0.1 * logs["loss/value_avg"]


@pytest.mark.parametrize(
    ("logs", "args"),
    [
        (PARTS, {}),
        (PARTS, {"vf_coef": None}),
        (PARTS, {"vf_coef": "0.1"}),
        ({"loss/policy_avg": 0.5}, {"vf_coef": 0.1}),
        (PARTS | {"loss/value_avg": None}, {"vf_coef": 0.1}),
    ],
)
def test_it_is_missing_where_a_part_is(logs, args):
    """Nothing is guessed."""
    assert "loss" not in normalize(logs, "PPO", args).train


def test_a_part_that_broke_breaks_the_whole():
    """NaN is a measurement; it does not make the loss missing."""
    assert math.isnan(normalize(PARTS | {"loss/value_avg": math.nan}, "PPO", {"vf_coef": 0.1}).train["loss"])


def test_a_loss_that_was_logged_stands():
    """A trainer of the user's own may log it."""
    assert normalize(PARTS | {"loss": 9.0}, "PPO", {"vf_coef": 0.1}).train["loss"] == 9.0


def test_the_catalog_says_that_it_is_derived():
    """The run event can tell; no other trainer's loss is."""
    assert derived("PPO") == {"loss": "policy_loss + vf_coef * value_loss"}
    assert derived("GRPO") == {}
    assert "loss" not in normalize(PARTS, "GRPO", {"vf_coef": 0.1}).train
