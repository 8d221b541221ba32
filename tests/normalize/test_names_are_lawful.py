"""Two quantities never share a name, and a name says the same wherever it stands."""

from __future__ import annotations

import pytest

from rldk import catalog
from rldk.normalize import normalize, units

UNITS = {
    "1",
    "nats/token",
    "nats/sequence",
    "reward",
    "implicit reward",
    "fraction",
    "tokens",
    "tokens/s",
    "s",
    "epochs",
    "episodes",
    "episodes/s",
    "samples/s",
    "steps/s",
    "calls/completion",
    "FLOP",
}
RELEASES = ("0.23.1", "0.26.2", "0.27.0", "0.29.1", "1.2.0", "1.8.0", "1.9.0", "1.12.0", "1.16.0")


def test_a_name_is_of_one_quantity():
    """One entry has it, and with it one unit and one meaning."""
    names = [metric.name for metric in catalog.metrics()]
    assert len(names) == len(set(names))


def test_a_unit_is_one_that_is_known():
    """A misspelt unit is a new one."""
    assert {metric.unit for metric in catalog.metrics()} <= UNITS


def test_each_way_of_logging_is_whole():
    """A line has a key or a formula, and a span of releases that is not empty."""
    for metric in catalog.metrics():
        for line in metric.logged:
            assert sum(map(bool, (line.raw, line.derived, line.measured))) == 1
            assert line.by
            assert line.holds_for(line.since)
            assert line.holds_for(line.until)


@pytest.mark.parametrize("trainer", ["PPO", "GRPO", "RLOO", "DPO", "KTO", "Reward", "SFT", "OnlineDPO"])
@pytest.mark.parametrize("trl", RELEASES)
def test_a_key_is_of_one_quantity_in_one_release(trainer, trl):
    """One line, and so one name and one reduction, is true of a trainer's key."""
    keys = [line.raw for _, line in catalog.logged_by(trainer, trl) if line.raw]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("trainer", "raw", "name", "unit"),
    [
        ("GRPO", "kl", "kl_mean", "nats/token"),
        ("RLOO", "kl", "kl_mean", "nats/token"),
        ("PPO", "objective/kl", "kl_seq_mean", "nats/sequence"),
        ("OnlineDPO", "objective/kl", "kl_seq_mean", "nats/sequence"),
        ("KTO", "kl", "kl_reference_point", "nats/sequence"),
        ("PPO", "policy/approxkl_avg", "approx_kl_update", "nats/token"),
        ("PPO", "policy/entropy_avg", "entropy_mean", "nats/token"),
        ("PPO", "objective/entropy", "entropy_seq_mean", "nats/sequence"),
        ("PPO", "policy/clipfrac_avg", "clip_frac", "fraction"),
        ("PPO", "val/clipfrac_avg", "value_clip_frac", "fraction"),
        ("PPO", "objective/scores", "reward_mean", "reward"),
        ("PPO", "objective/rlhf_reward", "reward_total_mean", "reward"),
        ("Reward", "mean_reward", "reward_mean", "reward"),
        ("DPO", "rewards/chosen", "implicit_reward_chosen", "implicit reward"),
        ("DPO", "rewards/margins", "reward_margin", "implicit reward"),
        ("Reward", "margin", "score_margin", "reward"),
        ("OnlineDPO", "objective/scores_margin", "score_margin", "reward"),
        ("DPO", "rewards/accuracies", "pref_accuracy", "fraction"),
        ("Reward", "accuracy", "pref_accuracy", "fraction"),
        ("GRPO", "num_tokens", "tokens_total", "tokens"),
        ("SFT", "num_tokens", "tokens_trained_total", "tokens"),
        ("PPO", "lr", "lr", "1"),
        ("DPO", "learning_rate", "lr", "1"),
    ],
)
def test_what_looks_alike_is_told_apart(trainer, raw, name, unit):
    """The same word is another quantity for another trainer, and other words are the same one."""
    match = catalog.find(raw, trainer)
    assert (match.name, match.metric.unit) == (name, unit)
    assert units(trainer)[name] == unit


@pytest.mark.parametrize(
    ("trainer", "raw", "trl", "name"),
    [
        ("RLOO", "reward", "0.26.2", "reward_total_mean"),  # the KL penalty is in it
        ("RLOO", "reward", "0.27.0", "reward_mean"),
        ("RLOO", "reward_std", "0.23.1", "reward_total_std"),
        ("RLOO", "reward_std", "1.16.0", "reward_std"),
        ("KTO", "logits/chosen", "1.8.0", "logits_chosen_seq_sum"),
        ("KTO", "logits/chosen", "1.9.0", "logits_chosen_mean"),
        ("RLOO", "reward", "", "reward_mean"),
        ("KTO", "logits/rejected", "1.17.0.dev0", "logits_rejected_mean"),
    ],
)
def test_a_key_that_changed_its_meaning_changes_its_name(trainer, raw, trl, name):
    """Older TRL put another quantity under the key; an unknown release is taken for the newest."""
    assert catalog.find(raw, trainer, trl).name == name


def test_a_key_of_another_release_is_still_known():
    """A fix that reached an older branch costs no name."""
    assert catalog.find("step_time", "GRPO", "0.23.1").name == "step_time"
    assert catalog.find("objective/kl", "PPO", "1.16.0").name == "kl_seq_mean"


def test_ppo_logs_nothing_of_transformers_loop():
    """What looks like a key of that loop is a user's, for PPO has a loop of its own."""
    assert catalog.find("learning_rate", "PPO") is None
    assert catalog.find("train_loss", "PPO") is None
    assert catalog.find("grad_norm", "PPO") is None
    assert "grad_norm" in units("PPO"), "RLDK measures it"
    assert catalog.find("epoch", "PPO").name == "epoch"


def test_a_trainer_that_is_not_known_logs_what_transformers_does():
    """Its own keys keep their names."""
    told = normalize({"learning_rate": 0.1, "mine": 1.0}, "Trainer")
    assert told.train == {"lr": 0.1, "mine": 1.0}


def test_families_have_units():
    """The run event can tell the unit of what each reward function gives."""
    assert units("GRPO")["reward_components/{function}_mean"] == "reward"
    assert all(units("GRPO").values())


def test_units_are_of_the_release():
    """What a TRL does not log has no unit in its runs."""
    assert "step_time" in units("GRPO", "1.16.0")
    assert "step_time" not in units("GRPO", "0.23.1")


def test_the_names_of_the_guide_hold_what_they_say():
    """The guide's columns come from these keys of GRPO."""
    logs = {
        "reward": 1.0,
        "reward_std": 2.0,
        "kl": 3.0,
        "entropy": 4.0,
        "clip_ratio/region_mean": 5.0,
        "grad_norm": 6.0,
        "learning_rate": 7.0,
        "loss": 8.0,
    }
    names = ["reward_mean", "reward_std", "kl_mean", "entropy_mean", "clip_frac", "grad_norm", "lr", "loss"]
    assert normalize(logs, "GRPO").train == dict(zip(names, logs.values(), strict=True))
