"""Which rules a run will blind is told before it begins, from the rules' own declarations."""

from __future__ import annotations

import pytest

from rldk.health.foresight import Plan, foresee, grouped
from rldk.health.limits import limits
from rldk.health.rule import Rule, units
from rldk.health.rules import built_in


def outlook(plan, rules=None):
    """Each rule's outlook, by its name."""
    return {each.rule: each for each in foresee(built_in() if rules is None else rules, plan)}


def test_beta_zero_blinds_the_kl_rules():
    """GRPO without beta logs no KL; with it the rule sees."""
    blind = outlook(Plan("GRPO", {"beta": 0.0}))["kl_drift"]
    assert (blind.outlook, blind.first_step) == ("blind", None)
    assert "beta is 0" in blind.reason
    assert outlook(Plan("GRPO", {"beta": 0.04}))["kl_drift"].outlook == "able"


def test_logging_steps_delay_the_first_verdict():
    """A warm-up is counted in logs, so that sparse logs make it long."""
    plan = Plan("GRPO", {"beta": 0.1, "logging_steps": 10})
    (rule,) = (rule for rule in built_in() if rule.name == "entropy_collapse")
    assert outlook(plan)["entropy_collapse"].first_step == 10 * rule.warm_up


def test_a_run_that_is_too_short_blinds_and_says_both_steps():
    """A warm-up that is longer than the run: no verdict; one of more than half of it: a late one."""
    told = outlook(Plan("GRPO", {"logging_steps": 10}, max_steps=100))
    assert told["entropy_collapse"].outlook == "short"
    assert "step 150" in told["entropy_collapse"].reason
    assert "after the end at step 100" in told["entropy_collapse"].reason
    assert told["grad_norm_spike"].outlook == "late"
    assert told["zero_gradients"].outlook == "able"


def test_without_a_single_log_nothing_is_judged():
    """logging_steps beyond max_steps blind every rule about training's logs."""
    told = foresee(built_in(), Plan("SFT", {"logging_steps": 500}, max_steps=300))
    assert {each.outlook for each in told if each.part == "train"} <= {"short", "moot"}


def test_no_evaluation_blinds_overfitting():
    """Overfitting is seen in evaluations; by epochs, the step of the third is known with the run's length."""
    assert outlook(Plan("SFT", {}))["overfitting"].outlook == "blind"
    epochs = {"eval_strategy": "epoch", "num_train_epochs": 4, "max_steps": -1}
    told = outlook(Plan("SFT", epochs, max_steps=400))["overfitting"]
    assert (told.first_step, told.points) == (300, 3)
    assert outlook(Plan("SFT", epochs))["overfitting"].first_step is None


def test_no_checkpoints_blind_their_rules():
    """Neither with save_strategy no, nor with the analysis switched off, is a checkpoint weighed."""
    for plan in (Plan("SFT", {"save_strategy": "no"}), Plan("SFT", {}, has_checkpoints=False)):
        assert outlook(plan)["checkpoint_nonfinite"].outlook == "blind"
    few = outlook(Plan("SFT", {"save_steps": 40}, max_steps=50))
    assert few["checkpoint_nonfinite"].first_step == 40
    assert few["checkpoint_unchanged"].first_step == 50  # the last step is saved, too


def test_groups_of_two_see_little():
    """In pairs chance alone makes most of the groups that the rule counts."""
    assert outlook(Plan("GRPO", {"num_generations": 2}))["zero_variance_groups"].outlook == "weak"
    assert outlook(Plan("GRPO", {"num_generations": 8}))["zero_variance_groups"].outlook == "able"


def test_a_margin_without_a_reference_is_weak():
    """reference_free takes the margin its zero."""
    assert outlook(Plan("DPO", {"reference_free": True}))["preference_margin"].outlook == "weak"


@pytest.mark.parametrize(("trl", "expected"), [("0.23.1", "blind"), ("1.16.0", "able")])
def test_the_release_of_trl_counts(trl, expected):
    """The reward trainer logs its accuracy in training since 0.24."""
    assert outlook(Plan("Reward", {}, trl))["preference_accuracy"].outlook == expected


def test_ppo_logs_each_step_and_never_evaluates():
    """Its own loop ignores logging_steps and eval_strategy; without the measure it has no gradient norm."""
    args = {"logging_steps": 50, "eval_strategy": "steps"}
    told = outlook(Plan("PPO", args, "1.12.0"))
    assert told["zero_gradients"].first_step == 5
    assert "does not evaluate" in told["nonfinite_eval"].reason
    assert outlook(Plan("PPO", args, "1.12.0", has_measures=False))["zero_gradients"].outlook == "blind"


def test_what_has_nothing_to_judge_is_no_blindness():
    """Without fp16 nothing overflows it: that is told apart from a rule that misses what it reads."""
    assert outlook(Plan("GRPO", {}))["fp16_overflow"].outlook == "moot"


def test_rules_of_the_user_are_never_asked_to_judge():
    """A rule of somebody's own is looked at, not run; what no catalog knows is taken as logged."""

    class Own(Rule):
        name, title, warm_up = "own", "Own", 7
        reads = units(my_metric="")

        def judge(self, window):
            raise AssertionError

    told = outlook(Plan("GRPO", {"logging_steps": 1}), [Own(), *limits({"kl_divergence": 0.1})])
    assert told["own"].first_step == 7
    assert outlook(Plan("GRPO", {"beta": 0}), limits({"kl_divergence": 1}))["limit_kl_divergence"].reason


def test_reasons_are_shared():
    """What one cause blinds is told once."""
    told = grouped(foresee(built_in(), Plan("SFT", {"save_strategy": "no"})), ["blind"])
    assert len(told["no checkpoint is saved (save_strategy=no)"]) == 4


def test_a_rule_that_looks_at_evaluations_waits_for_them():
    """Logs come often, evaluations seldom: the verdict comes with the log after the sixth of those."""
    plan = Plan("GRPO", {"logging_steps": 1, "eval_strategy": "steps", "eval_steps": 200}, max_steps=5000)
    assert outlook(plan)["reward_hacking"].first_step == 1201
