"""What TRL and transformers do to their logs is understood: each trap was seen in a real run."""

from __future__ import annotations

import math

import pytest

from rldk.normalize import normalize


@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        ("1.16.0_grpo", "GRPO"),
        ("0.23.1_dpo", "DPO"),
        ("1.16.0_sft_eval", "SFT"),
        ("1.16.0_kto", "KTO"),
        ("1.16.0_onlinedpo", "OnlineDPO"),
    ],
)
def test_the_final_summary_is_no_step(logs_of, name, trainer):
    """What transformers logs at the end of training is told apart from the last step."""
    told = normalize(logs_of(name)[-1], trainer)
    assert (told.train, told.eval) == ({}, {})
    assert {"train_runtime", "train_loss", "epoch"} <= set(told.summary)


def test_ppo_ends_with_a_step(logs_of):
    """It logs no summary: its last log is the last step."""
    told = normalize(logs_of("1.12.0_ppo")[-1], "PPO")
    assert told.summary == {}
    assert told.train["episodes_total"] == 96


def test_what_was_left_over_at_the_end_is_a_step():
    """A summary that carries metrics since the last log keeps them as the last step's."""
    told = normalize({"train_runtime": 1.0, "train_loss": 0.5, "reward": 0.25, "epoch": 1.0}, "GRPO")
    assert told.train == {"reward_mean": 0.25, "epoch": 1.0}
    assert told.summary == {"train_runtime": 1.0, "train_loss": 0.5, "epoch": 1.0}


def test_train_runtime_alone_makes_no_summary():
    """include_num_input_tokens_seen puts train_runtime into every log."""
    told = normalize({"loss": 1.0, "train_runtime": 2.0}, "GRPO")
    assert told.train == {"loss": 1.0, "train_runtime": 2.0}


def test_none_is_missing(logs_of):
    """TRL 1.x logs None where every value of a metric is NaN."""
    logs = next(logs for logs in logs_of("1.16.0_grpo_rnone") if None in logs.values())
    told = normalize(logs, "GRPO")
    assert None not in told.train.values()
    assert len(told.raw_names) == sum(value is not None for value in logs.values())


def test_nan_is_kept(logs_of):
    """A divergence that transformers hides in the loss (0.0) is seen in the gradient norm."""
    hidden = [
        told
        for logs in logs_of("1.16.0_sft_nanloss")
        if (told := normalize(logs, "SFT").train).get("loss") == 0
    ]
    assert hidden
    assert all(math.isnan(train["grad_norm"]) and math.isnan(train["entropy_mean"]) for train in hidden)


def test_whole_numbers_stay_whole(logs_of):
    """PPO logs three of its metrics as int."""
    train = normalize(logs_of("1.12.0_ppo")[0], "PPO").train
    whole = {name for name, value in train.items() if type(value) is int}
    assert whole == {"episodes_per_second", "episodes_total", "num_eos"}


def test_no_variance_of_one_ratio():
    """With one micro-batch an update, PPO's ratio_var is NaN by right, and is kept as that."""
    assert math.isnan(normalize({"val/ratio_var": math.nan}, "PPO").train["ratio_var"])


def test_none_terminated_is_what_trl_says():
    """0.0 says that no completion ended by itself; RLDK passes it on as it is."""
    told = normalize({"completions/mean_terminated_length": 0.0, "completions/clipped_ratio": 1.0}, "GRPO")
    assert told.train == {"completion_terminated_len_mean": 0.0, "completion_truncated_frac": 1.0}


def test_a_step_without_a_rollout_has_no_reward(logs_of):
    """With num_iterations above 1 GRPO measures rewards on some steps only; on others they are absent."""
    rewards = ["reward_mean" in normalize(logs, "GRPO").train for logs in logs_of("1.16.0_grpo_mu")[:-1]]
    assert rewards.count(True) == 2


def test_an_evaluation_is_told_apart(logs_of):
    """It has the step of the training log before it, and the same names."""
    told = [normalize(logs, "Reward") for logs in logs_of("1.16.0_reward_eval")]
    evaluations = [t for t in told if t.eval]
    assert evaluations
    assert all(
        {"loss", "runtime", "pref_accuracy", "epoch"} <= set(t.eval) and not t.train for t in evaluations
    )


def test_several_data_sets_are_told_apart():
    """The name of each stands before transformers' keys; TRL's own keys of that log are of the same one."""
    math_logs = {"eval_math_loss": 1.0, "eval_math_runtime": 2.0, "eval_entropy": 3.0, "epoch": 1.0}
    assert normalize(math_logs, "SFT").eval == {
        "math/loss": 1.0,
        "math/runtime": 2.0,
        "math/entropy_mean": 3.0,
        "epoch": 1.0,
    }


def test_a_data_set_may_have_any_name():
    """Underscores and words of our own lead nobody astray."""
    logs = {"eval_my_loss_loss": 1.0, "eval_my_loss_runtime": 2.0, "eval_my_loss_mine": 3.0}
    assert normalize(logs, "DPO").eval == {"my_loss/loss": 1.0, "my_loss/runtime": 2.0, "my_loss/mine": 3.0}


def test_a_users_metric_makes_no_data_set():
    """Only the time that transformers takes of each evaluation tells that there are several."""
    logs = {"eval_loss": 1.0, "eval_runtime": 2.0, "eval_sql_loss": 3.0, "eval_sql_runtime": 4.0}
    assert normalize(logs, "SFT").eval == {
        "loss": 1.0,
        "runtime": 2.0,
        "sql_loss": 3.0,
        "sql_runtime": 4.0,
    }


def test_a_users_metric_beside_trls():
    """log_metric of TRL 1.x puts any key into the log; it keeps its name."""
    told = normalize({"my_metric": 1.0, "nested/metric": 2.0, "reward": 3.0}, "GRPO")
    assert told.train == {"my_metric": 1.0, "nested/metric": 2.0, "reward_mean": 3.0}


def test_a_reward_function_without_a_name():
    """A lambda's name, and a name with slashes, are kept as they are."""
    told = normalize({"rewards/<lambda>/mean": 1.0, "rewards/a/b/std": 2.0}, "RLOO")
    assert told.train == {"reward_components/<lambda>_mean": 1.0, "reward_components/a/b_std": 2.0}
