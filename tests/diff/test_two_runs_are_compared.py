"""`rldk.diff.diff` tells where two runs part, in what they were set up otherwise, and how they are."""

from __future__ import annotations

import json
import math

import pytest

from rldk.diff import diff
from rldk.diff.setup import Setup, differences
from rldk.errors import SettingError, SourceError, UnknownSourceError
from tests.bridges._journals import cache_of_its_own, rldk  # noqa: F401
from tests.bridges._wandb_runs import wandb_offline  # noqa: F401
from tests.diff._runs import ARGS, write, write_recorded


@pytest.fixture
def base(tmp_path):
    """A run."""
    return write(tmp_path / "base", "base")


def named(found, label):
    """One metric of a comparison."""
    (metric,) = [each for each in found.metrics if each.label == label]
    return metric


def test_a_run_is_the_same_as_itself(base, tmp_path):
    """Under another name, too; times and speeds are told, and do not count."""

    def slower(_, metrics):
        return metrics | {"tokens_per_second": metrics["tokens_per_second"] / 2}

    found = diff(base, write(tmp_path, "again", slower))
    assert found.is_same
    assert found.parted == []
    assert named(found, "tokens_per_second").is_timing
    assert not named(found, "tokens_per_second").is_same
    assert found.settings == []
    assert found.summary.startswith("same config; 4 metrics agree at each of 40 steps")


def test_the_first_parting_is_named(base, tmp_path):
    """Step, metric and both values; the learning rate is what was set, not what was measured."""

    def change(step, metrics):
        scaled = metrics | {"lr": metrics["lr"] * 2}
        return scaled | ({"reward_mean": metrics["reward_mean"] + 1.0} if step >= 12 else {})

    found = diff(base, write(tmp_path, "other", change, args=ARGS | {"learning_rate": 2e-6}))
    reward = named(found, "reward_mean")
    assert (reward.first.step, reward.differing, reward.points) == (12, 29, 40)
    assert reward.first.b == pytest.approx(reward.first.a + 1.0)
    assert reward.end.is_apart
    assert reward.end.difference == pytest.approx(1.0)
    assert [one.name for one in found.settings] == ["learning_rate"]
    assert found.summary.startswith(
        "same config but for learning_rate; they part first at step 1 in lr (9.75e-07, 1.95e-06), "
        "then at step 12 in reward_mean"
    )


def test_the_tolerance_is_as_wide_as_asked(base, tmp_path):
    """Relative and absolute."""
    other = write(tmp_path, "other", lambda _, metrics: metrics | {"kl_mean": metrics["kl_mean"] * 1.001})
    assert not diff(base, other).is_same
    assert diff(base, other, rtol=0.01).is_same
    assert diff(base, other, rtol=0, atol=0.01).is_same
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(SettingError, match="from 0 on"):
            diff(base, other, rtol=wrong)


@pytest.mark.parametrize(
    ("value", "kind"), [(math.nan, "not finite"), (0.0, "value"), (None, "missing"), (math.inf, "not finite")]
)
def test_missing_zero_and_nan_are_told_apart(base, tmp_path, value, kind):
    """At the step where the other run measured a number."""

    def change(step, metrics):
        if step != 7:
            return metrics
        return {name: v for name, v in (metrics | {"kl_mean": value}).items() if v is not None}

    first = named(diff(base, write(tmp_path, "other", change)), "kl_mean").first
    assert (first.step, first.kind, first.a) == (7, kind, 0.07)
    assert repr(first.b) == repr(value)


def test_training_and_evaluation_are_kept_apart(base, tmp_path):
    """A metric has the same name in both."""
    other = write(tmp_path, "other", every=5)
    found = diff(base, other)
    assert found.steps["train"].only_b == 0
    assert (found.steps["eval"].both, found.steps["eval"].only_b, found.steps["eval"].first_only) == (4, 4, 5)
    assert not found.is_same
    assert named(found, "eval/loss").is_same
    assert "4 steps only in B of evaluation, from step 5" in found.summary


def test_what_only_one_has_is_named(base, tmp_path):
    """Metrics, and steps."""

    def change(step, metrics):
        return None if step > 30 else metrics | {"mine": 1.0}

    found = diff(base, write(tmp_path, "other", change, every=0))
    assert found.only_a == ["eval/loss", "eval/runtime"]
    assert found.only_b == ["mine"]
    assert (found.steps["train"].only_a, found.steps["train"].first_only) == (10, 31)
    assert not found.is_same
    assert "only B has mine" in found.summary


def test_settings_are_compared_by_value_and_secrets_stay(base, tmp_path):
    """Seed, commit, versions, arguments at any depth; where things are written counts less."""
    token = "hf_" + "a" * 34
    args = ARGS | {"output_dir": "elsewhere", "deep": {"a": [1]}, "hub_token": token, "key": token}
    other = write(
        tmp_path, "other", args=args, seed=7, git_sha="def", versions={"trl": "0.23.1"}, trainer="RLOO"
    )
    found = diff(write(tmp_path, "third", args=ARGS | {"deep": {"a": [2]}, "hub_token": "x" + token}), other)
    told = {one.name: (one.a, one.b) for one in found.settings}
    assert {name: told[name] for name in ("seed", "commit", "trainer", "versions.trl", "deep.a")} == {
        "seed": (42, 7),
        "commit": ("abc", "def"),
        "trainer": ("GRPO", "RLOO"),
        "versions.trl": ("1.16.0", "0.23.1"),
        "deep.a": ([2], [1]),
    }
    assert [one.name for one in found.settings if one.is_place] == ["output_dir"]
    assert found.settings_only_b == ["key"]
    assert token not in repr(found)


def test_how_well_they_are_is_told_of_both(tmp_path):
    """By the same rules, whatever was judged while they ran."""
    well = write(tmp_path, "well", lambda _, metrics: metrics | {"grad_norm": 1.0})
    broken = write(
        tmp_path, "broken", lambda step, metrics: metrics | {"grad_norm": math.nan if step > 20 else 1.0}
    )
    found = diff(well, broken)
    assert found.b.verdict == "critical"
    assert ("nonfinite", "critical", 21) in [(one.rule, one.severity, one.step) for one in found.b.alerts]
    assert not [one for one in found.a.alerts if one.rule == "nonfinite"]
    assert named(found, "grad_norm").nonfinite_b == 20
    assert named(found, "grad_norm").first.step == 21
    assert named(found, "grad_norm").end is None
    assert "apart in the end: grad_norm" in found.summary


@pytest.mark.real
@pytest.mark.usefixtures("mlflow_db")
@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_tracker_has_the_same_run_as_the_journal(base, tracker):
    """Every number, and every setting, though MLflow keeps them as text."""
    (sent,) = json.loads(rldk("sync", base, "--to", tracker, "--json").stdout)["runs"]
    found = diff(base, sent["home"])
    assert found.is_same, found.summary
    assert len(found.metrics) == 6
    assert [one for one in found.settings if not one.is_place] == []
    assert found.a.verdict == found.b.verdict


@pytest.mark.parametrize(
    ("a", "b", "trainer"),
    [
        ("1.16.0_grpo_beta", "0.23.1_grpo_beta", "GRPO"),
        ("1.12.0_ppo", "1.12.0_ppo_nan", "PPO"),
        ("1.16.0_sft_eval", "1.16.0_sft_nanloss", "SFT"),
        ("1.16.0_dpo_ddp_rank0", "1.16.0_dpo_eval", "DPO"),
    ],
)
def test_recordings_of_real_trainers_are_compared(tmp_path, a, b, trainer):
    """Whatever they hold; each is the same as itself."""
    mine, theirs = (write_recorded(tmp_path / name, name, trainer) for name in (a, b))
    found = diff(mine, theirs)
    assert not found.is_same
    assert found.parted
    assert "they part first at step" in found.summary
    assert "tell no config" in found.summary
    assert diff(mine, mine).is_same


def test_a_trainer_state_is_compared_with_a_journal(base, tmp_path):
    """Logs of others get their names by the catalog."""
    logs = [f'{{"step": {step}, "reward": {step / 40}, "kl": 0.5}}' for step in range(1, 41)]
    (tmp_path / "trainer_state.json").write_text(f'{{"log_history": [{", ".join(logs)}]}}')
    found = diff(base, tmp_path / "trainer_state.json")
    assert {metric.label for metric in found.parted} == {"reward_mean", "kl_mean"}
    assert found.told_settings == (True, False)


def test_of_several_runs_two_are_chosen(base, tmp_path):
    """By their ids; the second source may be left out."""
    write(base.parent, "other")
    write(base.parent, "third")
    folder = base.parent
    assert diff(folder, runs=("base", "third")).b.run_id == "third"
    assert diff(folder, base, runs=("oth*", None)).a.run_id == "other"
    (folder / "third_events.jsonl").unlink()
    assert [diff(folder).a.run_id, diff(folder).b.run_id] == ["base", "other"]
    with pytest.raises(SourceError, match=r"it holds 2 runs \(base, other\), not 1; choose with --runs"):
        diff(folder, base)
    with pytest.raises(SourceError, match=r"it holds 1 run .*, not 2; name the second run"):
        diff(base)
    with pytest.raises(SettingError, match="ids of these runs: base, other"):
        diff(folder, base, runs=("nobody", None))


def test_metrics_are_chosen_by_name(base, tmp_path):
    """With wildcards; one that is not there is refused with those that are."""
    other = write(tmp_path, "other", lambda _, metrics: metrics | {"kl_mean": 9.0})
    assert not diff(base, other).is_same
    found = diff(base, other, metrics=["reward*", "eval/loss"])
    assert [metric.label for metric in found.metrics] == ["eval/loss", "reward_mean"]
    assert found.is_same
    with pytest.raises(SettingError, match="reward_mean"):
        diff(base, other, metrics=["nothing"])


def test_what_is_no_run_is_refused(base, tmp_path):
    """With the errors of every reader."""
    (tmp_path / "empty_events.jsonl").write_bytes(b"")
    with pytest.raises(UnknownSourceError):
        diff(base, tmp_path / "nowhere")
    with pytest.raises(SourceError):
        diff(base, tmp_path / "empty_events.jsonl")
    silent = write(tmp_path, "silent", lambda *_: None, every=0)
    with pytest.raises(SourceError, match="run silent holds no metric"):
        diff(base, silent)


@pytest.mark.parametrize(
    ("a", "b", "is_one"),
    [
        (True, "True", True),
        (True, "true", True),
        ("True", "true", True),
        (False, "False", True),
        (True, "False", False),
        (True, 1, False),
        (False, 0, False),
        (True, "1", False),
        (True, 1.0, False),
        ([True, 2], [1, 2], False),
        ([1, 2.0], [1.0, 2], True),
        ({}, [], False),
        (1, 1.0, True),
        (1e-6, "1e-06", True),
        (math.nan, math.nan, True),
        ("Adam", "adam", False),
    ],
)
def test_settings_are_compared_as_what_they_mean(a, b, is_one):
    """Some trackers keep all of them as text; yes is not one."""
    for here, there in ((a, b), (b, a)):
        found = differences(Setup({}, {"x": here}), Setup({}, {"x": there})).settings
        assert not found if is_one else [one.name for one in found] == ["x"]


@pytest.mark.parametrize(
    ("a", "b", "is_apart"),
    [
        (math.nan, math.nan, False),
        (math.inf, math.inf, False),
        (math.nan, math.inf, True),
        (-math.inf, math.inf, True),
        (0.5, math.nan, True),
        (math.inf, 0.5, True),
    ],
)
def test_what_is_not_finite_in_the_end_is_apart_where_it_is_another(tmp_path, a, b, is_apart):
    """Also where the two were apart before."""

    def ending(before, value):
        return lambda step, metrics: metrics | {"kl_mean": before if step < 20 else value}

    mine, theirs = write(tmp_path, "a", ending(0.1, a)), write(tmp_path, "b", ending(0.2, b))
    kl = named(diff(mine, theirs), "kl_mean")
    assert (kl.is_broken, kl.is_apart, kl.end) == (True, is_apart, None)
    assert [str(kl.last_a), str(kl.last_b)] == [str(a), str(b)]
