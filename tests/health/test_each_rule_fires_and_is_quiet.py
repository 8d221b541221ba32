"""Each of RLDK's rules fires where it should, at the right point, and not in a run that is nearly so."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rldk import catalog
from rldk.health.checkpoints import findings
from rldk.health.monitor import Monitor
from rldk.health.resources import UNITS
from rldk.health.rules import built_in
from rldk.health.window import SECONDS_PER_STEP
from tests.health._events import begin, event, heard, line

NAN, INF = math.nan, math.inf
RULES = {rule.name: rule for rule in built_in()}
TRAINERS = {trainer for metric in catalog.metrics() for trainer in metric.trainers}


class Case(NamedTuple):
    """A run that a rule is about, and runs that are nearly so.

    Attributes:
        rule: Name of the rule.
        trainer: Who trains.
        bad: The events.
        alerts: At which steps it is heard, and how bad it says it is.
        good: Other runs, in which it can judge and is not heard.
        args: Arguments of the trainer, in all of them.
    """

    rule: str
    trainer: str
    bad: list[Any]
    alerts: list[tuple[int, str]]
    good: list[list[Any]]
    args: dict[str, Any] = {}  # noqa: RUF012  # never changed

    @property
    def name(self):
        """For the test's own name."""
        return f"{self.rule}-{self.alerts[-1][1]}"


def logs(kind="metrics", *, every=1, phase="train", **series):
    """A log for each value; None is not logged."""
    return [
        event(
            number * every,
            {name: value for name, value in zip(series, values, strict=True) if value is not None},
            kind,
            phase=phase,
        )
        for number, values in enumerate(zip(*series.values(), strict=True), 1)
    ]


def noisy(count, middle=1.0, size=0.1):
    """Values about a middle, the same each time."""
    return [middle + size * (number * 7 % 5 - 2) / 2 for number in range(count)]


def rising(count, start, each):
    """Values that grow steadily."""
    return [start + each * number for number in range(count)]


def merged(*runs):
    """Several logs as one, by their steps."""
    return sorted((each for run in runs for each in run), key=lambda each: each.step)


def saved(*found):
    """A checkpoint's analysis every ten steps; with a finding of a rule, or without any."""
    told = [
        [] if rule is None else [{"rule": rule, "severity": severity, "message": "it is bad", "evidence": {}}]
        for rule, severity in found
    ]
    metrics = dict.fromkeys(("nonfinite_count", "relative_change", "exploding_tensors", "dead_tensors"), 0.0)
    return [
        event(
            step * 10,
            metrics,
            "checkpoint",
            checkpoint=f"checkpoint-{step * 10}",
            analysis={"findings": each},
        )
        for step, each in enumerate(told, 1)
    ]


def finding(rule, severity):
    """The case of a rule that repeats what a checkpoint's analysis has found."""
    other = next(name for name in RULES if name.startswith("checkpoint_") and name != rule)
    bad = saved((None, ""), (rule, severity))
    return Case(rule, "SFT", bad, [(20, severity)], [saved((None, ""), (other, severity))])


def sampled(values, name="host_memory_used_frac"):
    """Samples of a memory."""
    host = noisy(len(values), 0.3, 0.001) if name != "host_memory_used_frac" else values
    return logs("resource", **{"host_memory_used_frac": host, name: values})


def silent(seconds):
    """Logs every two seconds, and a sample of resources so long after the last."""
    points = logs(loss=noisy(20))
    return [*points, event(20, {"process_cpu_percent": 0.0}, "resource", time=40.0 + seconds)]


SPIKE = noisy(18) + [3.0] * 12
GAINED = rising(20, 0.05, 0.05)
HACKED = {"reward_mean": rising(30, 0.0, 0.1)}
EVALUATED = [1.0, 0.8, 0.7, 0.9, 1.0]
GROWN = [100.0 + 3 * number + number * 7 % 5 * 4 for number in range(30)]

CASES = [
    Case(
        "nonfinite",
        "SFT",
        logs(loss=[*noisy(10), NAN, 1.0]),
        [(11, "critical")],
        [logs(loss=noisy(12)), logs(loss=[1e308] * 12, mine=[1e308] * 12)],
    ),
    Case(
        "nonfinite",
        "SFT",
        logs(loss=noisy(12), mine=[*noisy(10), INF, 1.0]),
        [(11, "warning")],
        [logs(loss=noisy(12), grad_norm=[INF, *noisy(11)])],
        {"fp16": True},
    ),
    Case(
        "nonfinite",
        "PPO",
        logs(policy_loss=noisy(5), ratio_var=[0.1, 0.1, 0.1, NAN, 0.1]),
        [(4, "warning")],
        [logs(policy_loss=noisy(5), ratio_var=[0.1] * 5)],
        {"num_ppo_epochs": 4},
    ),
    Case(
        "nonfinite_eval",
        "SFT",
        logs(phase="eval", loss=[1.0, NAN, 1.0], every=10),
        [(20, "warning")],
        [merged(logs(loss=[NAN] * 3), logs(phase="eval", loss=[1.0] * 3))],
    ),
    Case(
        "fp16_overflow",
        "SFT",
        logs(grad_norm=[*noisy(5), INF, NAN, INF]),
        [(8, "critical")],
        [logs(grad_norm=[INF, INF, 1.0, INF, INF, 1.0])],
        {"fp16": True},
    ),
    Case(
        "grad_norm_spike",
        "SFT",
        logs(grad_norm=noisy(20) + [20.0] * 10, loss=SPIKE),
        [(22, "warning")],
        [
            logs(grad_norm=noisy(20) + [9.0] * 10, loss=SPIKE),
            logs(grad_norm=[*noisy(20), 50.0, *noisy(9)], loss=SPIKE),  # one batch
        ],
    ),
    Case(
        "grad_norm_spike",
        "Reward",
        logs(grad_norm=noisy(20) + [20.0] * 10, loss=noisy(30)),
        [(22, "info")],
        [logs(grad_norm=rising(30, 1.0, 1.0), loss=noisy(30))],
    ),
    Case(
        "grad_norm_spike",
        "GRPO",
        logs(grad_norm=noisy(20) + [200.0] * 10, loss=[0.0] * 30),
        [(22, "warning"), (24, "critical")],
        [logs(grad_norm=[1.0, 0.0, 0.0, 0.0] * 8, loss=[0.0] * 32)],  # groups of one reward
    ),
    Case(
        "zero_gradients",
        "SFT",
        logs(grad_norm=noisy(10) + [0.0] * 8),
        [(15, "warning")],
        [logs(grad_norm=[*noisy(10), 0.0, 0.0, 0.0, 0.0, 1.0]), logs(grad_norm=[1e-9] * 20)],
    ),
    Case(
        "zero_gradients",
        "DPO",
        logs(grad_norm=[0.0] * 20),
        [(5, "critical")],
        [logs(grad_norm=[0.0] * 4 + [0.01] * 16)],
    ),
    Case(
        "zero_gradients",
        "GRPO",
        logs(grad_norm=noisy(5) + [0.0] * 15),
        [(20, "warning")],
        [logs(grad_norm=noisy(5) + [0.0] * 14 + [1.0])],
    ),
    Case(
        "loss_spike",
        "SFT",
        logs(loss=noisy(15, 1.0, 0.02) + [1.6] * 10),
        [(18, "warning")],
        [logs(loss=noisy(15, 1.0, 0.02) + [1.4] * 10), logs(loss=[*noisy(15), 9.0, 9.0, *noisy(9)])],
    ),
    Case(
        "loss_spike",
        "DPO",
        logs(loss=noisy(15, 1.0, 0.02) + [9.0] * 10),
        [(18, "warning"), (20, "critical")],
        [logs(loss=rising(30, 1.0, -0.03))],
    ),
    Case(
        "kl_drift",
        "GRPO",
        logs(kl_mean=[0.01] * 10 + [0.6] * 10),
        [(15, "warning")],
        [logs(kl_mean=[0.1] * 10 + [0.6] * 10), logs(kl_mean=[0.0001] * 10 + [0.4] * 10)],
        {"beta": 0.04},
    ),
    Case(
        "kl_drift",
        "RLOO",
        logs(kl_mean=[0.01] * 10 + [3.0] * 10),
        [(15, "critical")],
        [logs(kl_mean=[0.01] * 10 + [3.0] * 2 + [0.01] * 10)],
        {"beta": 0.04},
    ),
    Case(
        "kl_drift_sequence",
        "PPO",
        logs(kl_seq_mean=[1.0] * 10 + [30.0] * 10),
        [(15, "warning")],
        [logs(kl_seq_mean=[1.0] * 10 + [25.0] * 10), logs(kl_seq_mean=[20.0] * 10 + [30.0] * 10)],
        {"response_length": 53},
    ),
    Case(
        "kl_negative",
        "GRPO",
        logs(kl_mean=[0.01] * 4 + [-0.1] * 6),
        [(7, "warning")],
        [logs(kl_mean=[-1e-6] * 30)],
        {"beta": 0.04},
    ),
    Case(
        "kl_negative",
        "PPO",
        logs(kl_seq_mean=noisy(20, -1.0, 0.5)),
        [(12, "warning")],
        [logs(kl_seq_mean=noisy(20, -0.1, 2.0))],
    ),
    Case(
        "clip_fraction",
        "PPO",
        logs(clip_frac=[0.05] * 10 + [0.4] * 12),
        [(18, "warning")],
        [logs(clip_frac=[0.05] * 10 + [0.29] * 12), logs(clip_frac=[0.05] * 10 + [0.9] * 4 + [0.05] * 6)],
    ),
    Case(
        "ratio_out_of_range",
        "PPO",
        logs(ratio_mean=[1.0] * 5 + [1.5] * 5),
        [(7, "warning")],
        [logs(ratio_mean=[1.0] * 5 + [1.19] * 5), logs(ratio_mean=[1.0, 1.5, 1.0, 1.0, 0.5, 1.0])],
    ),
    Case(
        "ratio_out_of_range",
        "PPO",
        logs(ratio_mean=[1.0] * 5 + [3.0] * 5),
        [(7, "critical")],
        [logs(ratio_mean=[1.4] * 10)],
        {"cliprange": 0.5},
    ),
    Case(
        "entropy_collapse",
        "GRPO",
        logs(entropy_mean=noisy(15) + [0.03] * 8),
        [(20, "warning")],
        [logs(entropy_mean=noisy(15) + [0.08] * 8), logs(entropy_mean=[0.04] * 30)],
    ),
    Case(
        "entropy_blow_up",
        "GRPO",
        logs(entropy_mean=noisy(15) + [3.5] * 8),
        [(20, "warning")],
        [logs(entropy_mean=noisy(15) + [2.5] * 8), logs(entropy_mean=[0.1] * 15 + [0.5] * 15)],
    ),
    Case(
        "reward_missing",
        "GRPO",
        logs(reward_zero_std_frac=[0.0] * 6, reward_mean=[1.0, 1.0, 1.0, None, None, None]),
        [(5, "critical")],
        [logs(reward_zero_std_frac=[0.0] * 6, reward_mean=[1.0, None, 1.0, 1.0, None, 1.0])],
    ),
    Case(
        "reward_collapse",
        "GRPO",
        logs(reward_mean=GAINED + [0.0] * 8),
        [(25, "critical")],
        [logs(reward_mean=GAINED + [0.7] * 8), logs(reward_mean=noisy(40, 0.5, 0.5))],
    ),
    Case(
        "reward_collapse",
        "PPO",
        logs(reward_mean=GAINED + [0.4] * 8),
        [(25, "warning")],
        [logs(reward_mean=[*GAINED, 0.0, 0.0, *GAINED[-5:]])],
    ),
    Case(
        "reward_hacking",
        "PPO",
        logs(**HACKED, reward_total_mean=rising(30, 0.0, -0.1)),
        [(8, "warning")],
        [
            logs(**HACKED, reward_total_mean=rising(30, 0.0, 0.1)),
            logs(**HACKED, reward_total_mean=noisy(30, 0.0, 0.5)),
        ],
    ),
    Case(
        "reward_hacking",
        "GRPO",
        merged(logs(**HACKED), logs(every=3, phase="eval", reward_mean=rising(10, 0.0, -0.1))),
        [(21, "warning")],  # six evaluations are known from step 19 on
        [merged(logs(**HACKED), logs(every=3, phase="eval", reward_mean=rising(10, 0.0, 0.1)))],
    ),
    Case(
        "constant_reward",
        "GRPO",
        logs(reward_std=[0.0] * 15, reward_zero_std_frac=[1.0] * 15),
        [(10, "warning")],
        [logs(reward_std=[0.0] * 9 + [0.2] + [0.0] * 9, reward_zero_std_frac=[1.0] * 9 + [0.9] + [1.0] * 9)],
    ),
    Case(
        "zero_variance_groups",
        "GRPO",
        logs(reward_zero_std_frac=[0.6] * 10, reward_mean=[0.5] * 10),
        [(7, "warning")],
        [
            logs(reward_zero_std_frac=[0.95] * 10, reward_mean=[0.99] * 10),  # 0.92 by chance
            logs(reward_zero_std_frac=[0.3] * 10, reward_mean=[0.5] * 10),
        ],
        {"num_generations": 8},
    ),
    Case(
        "truncated_completions",
        "GRPO",
        logs(completion_truncated_frac=[1.0] * 20),
        [(14, "warning")],
        [logs(completion_truncated_frac=[0.9] * 20)],
    ),
    Case(
        "length_creep",
        "GRPO",
        logs(completion_len_mean=noisy(15, 100, 4) + [200.0] * 10, reward_mean=noisy(25, 0.5, 0.2)),
        [(20, "warning")],
        [
            logs(completion_len_mean=noisy(15, 100, 4) + [200.0] * 10, reward_mean=rising(25, 0.1, 0.03)),
            logs(completion_len_mean=noisy(15, 100, 4) + [130.0] * 10, reward_mean=noisy(25, 0.5, 0.2)),
        ],
    ),
    Case(
        "length_reward",
        "GRPO",
        logs(completion_len_mean=GROWN, reward_mean=[length / 100 for length in GROWN]),
        [(22, "warning")],
        [
            logs(completion_len_mean=GROWN, reward_mean=noisy(30)[::-1]),
            logs(completion_len_mean=noisy(30, 100, 9), reward_mean=noisy(30, 1, 0.09)),  # not longer
        ],
    ),
    Case(
        "value_loss",
        "PPO",
        logs(value_loss=noisy(15) + [10.0] * 8),
        [(20, "warning")],
        [logs(value_loss=noisy(15) + [4.5] * 8)],
    ),
    Case(
        "value_clipping",
        "PPO",
        logs(value_clip_frac=[0.6] * 20),
        [(14, "warning")],
        [logs(value_clip_frac=[0.45] * 20)],
    ),
    Case(
        "preference_accuracy",
        "DPO",
        logs(pref_accuracy=noisy(40, 0.5, 0.05)),
        [(34, "warning")],
        [logs(pref_accuracy=noisy(40, 0.65, 0.05))],
    ),
    Case(
        "preference_margin",
        "DPO",
        logs(reward_margin=noisy(30, -1.0, 0.2)),
        [(19, "warning")],
        [logs(reward_margin=noisy(30, 1.0, 0.2)), logs(reward_margin=noisy(30, -0.1, 1.0))],
    ),
    Case(
        "likelihood_displacement",
        "DPO",
        logs(logp_chosen_seq_mean=[-100.0] * 15 + [-120.0] * 20, reward_margin=rising(35, 0.0, 0.1)),
        [(24, "info")],
        [
            logs(logp_chosen_seq_mean=[-100.0] * 15 + [-105.0] * 20, reward_margin=rising(35, 0.0, 0.1)),
            logs(logp_chosen_seq_mean=[-100.0] * 15 + [-120.0] * 20, reward_margin=rising(35, 1.0, -0.1)),
        ],
    ),
    Case(
        "likelihood_displacement",
        "DPO",
        logs(logp_chosen_seq_mean=[-100.0] * 15 + [-160.0] * 20, reward_margin=rising(35, 0.0, 0.1)),
        [(24, "info"), (25, "warning")],
        [logs(logp_chosen_seq_mean=noisy(35, -100.0, 40.0), reward_margin=rising(35, 0.0, 0.1))],
    ),
    Case(
        "kto_empty_side",
        "KTO",
        logs(implicit_reward_chosen=noisy(15)),
        [(10, "warning")],
        [
            logs(
                implicit_reward_chosen=noisy(30),
                implicit_reward_rejected=[1.0 if number % 10 == 9 else None for number in range(30)],
            )
        ],
    ),
    Case(
        "overfitting",
        "SFT",
        merged(
            logs(loss=rising(50, 1.0, -0.01)),
            logs(every=10, phase="eval", loss=EVALUATED),
        ),
        [(50, "warning")],
        [
            merged(
                logs(loss=rising(30, 1.0, -0.01) + rising(20, 0.8, 0.1)),  # the run itself goes wrong
                logs(every=10, phase="eval", loss=EVALUATED),
            ),
            merged(
                logs(loss=rising(50, 1.0, -0.01)),
                logs(every=10, phase="eval", loss=[1.0, 0.8, 0.7, 0.75, 0.76]),
            ),
        ],
    ),
    Case(
        "stall",
        "SFT",
        logs(step_time=noisy(15) + [4.0] * 8),
        [(20, "warning")],
        [logs(step_time=noisy(15) + [2.5] * 8), logs(step_time=[0.01] * 15 + [0.3] * 8)],
    ),
    Case("hang", "SFT", silent(1000.0), [(20, "warning")], [silent(800.0)]),
    Case(
        "memory_creep",
        "SFT",
        sampled(rising(60, 0.3, 0.005)),
        [(43, "warning")],
        [
            sampled(noisy(60, 0.97, 0.001)),  # an allocator that keeps what it has
            sampled(rising(60, 0.1, 0.005)),  # there is room
            sampled(rising(60, 0.6, 0.0005)),  # there is time
        ],
    ),
    Case(
        "memory_creep",
        "SFT",
        sampled([min(each, 1.0) for each in rising(70, 0.66, 0.005)], "gpu1_memory_used_frac"),
        [(34, "warning"), (61, "critical")],
        [sampled(noisy(60, 0.97, 0.001), "gpu0_memory_used_frac")],
    ),
    finding("checkpoint_nonfinite", "critical"),
    finding("checkpoint_unchanged", "warning"),
    finding("checkpoint_exploding_layers", "warning"),
    finding("checkpoint_dead_layers", "warning"),
]


def asked(case, events):
    """What one rule says of a run, and how it stands at its end."""
    monitor = Monitor([RULES[case.rule]])
    changes = heard(monitor, [begin(case.trainer, args=case.args), *events])
    assert monitor.errors == 0
    alerts = [(step, severity) for _, state, severity, step in changes if state == "firing"]
    return alerts, line(monitor, case.rule)


def test_each_rule_has_a_case():
    """One without is no rule of RLDK's."""
    assert {case.rule for case in CASES} == set(RULES)
    assert len(RULES) == len(built_in())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_fires_in_the_run_that_it_is_about(case):
    """At that point and as badly as it is, no more than once for each degree."""
    alerts, told = asked(case, case.bad)
    assert alerts == case.alerts
    assert told["severity"] == case.alerts[-1][1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_quiet_in_a_run_that_is_nearly_so(case):
    """It can judge there, and finds it well."""
    for events in case.good:
        alerts, told = asked(case, events)
        assert alerts == []
        assert (told["state"], told["severity"]) == ("ok", None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_alert_rests_on_numbers(case):
    """Its sentence tells what is seen, its evidence the numbers."""
    monitor = Monitor([RULES[case.rule]])
    changes = [
        change
        for each in [begin(case.trainer, args=case.args), *case.bad]
        for change in monitor.take(each)
        if change.level
    ]
    for change in changes:
        assert change.message.startswith(f"{change.rule.title}: ")
        assert not change.message.endswith(".")
        assert change.verdict.evidence or case.rule == "reward_missing"  # of which there is no number


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_rule_tells_what_it_is_about(rule):
    """Its meaning, what to do, where that is from; in sentences without their stop."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", rule.name)
    for text in (rule.title, rule.meaning, rule.advice, rule.source, type(rule).judge.__doc__):
        assert text
        assert text.strip() == text
    assert rule.title[0].isupper()
    assert not rule.meaning.endswith(".")
    assert not rule.advice.endswith(".")
    assert 1 <= rule.persistence.hits <= rule.persistence.points
    assert set(rule.trainers) <= TRAINERS


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_what_a_rule_reads_is_known_with_its_unit(rule):
    """In the catalog, among the resources, or in a checkpoint's analysis."""
    for name, unit in rule.reads.items():
        assert unit == unit_of(name, rule.part)
    for name in rule.looks_at:
        part, _, metric = name.rpartition(":")
        assert metric == SECONDS_PER_STEP or unit_of(metric, part or rule.part)


def unit_of(name, part):
    """The unit of what a part of a run logs; None where it logs no such thing."""
    if part == "resource":
        return UNITS.get(re.sub(r"^gpu\d+", "gpu{i}", name))
    if part == "checkpoint":
        return (
            "1"
            if name in {"nonfinite_count", "relative_change", "exploding_tensors", "dead_tensors"}
            else None
        )
    metric = catalog.named(name)
    return None if metric is None else metric.unit


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_rule_is_about_trainers_that_log_what_it_reads(rule):
    """Or it could never judge any run of theirs."""
    if rule.part not in {"train", "eval"}:
        return
    for trainer in rule.trainers:
        logged = {metric.name for metric, _ in catalog.logged_by(trainer)}
        assert set(rule.reads) <= logged, trainer
        assert not rule.looks_at or any(name.rpartition(":")[2] in logged for name in rule.looks_at), trainer


def test_what_checkpoints_are_found_to_be_is_repeated_by_a_rule():
    """Each finding of the analysis has its rule."""
    source = Path(findings.__file__).read_text(encoding="utf-8")
    named = set(re.findall(r'"(checkpoint_[a-z_]+)"', source))
    assert named == {name for name in RULES if name.startswith("checkpoint_")}
