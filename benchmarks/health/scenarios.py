"""Which runs are made: healthy ones of every trainer, and one for each fault."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.health import faults, rewards, world
from benchmarks.health.rewards import FROM_STEP
from benchmarks.health.scenario import Scenario

_NICE: Final = rewards.nice_and_short
_SAVES: Final = {"save_strategy": "steps", "save_steps": 10}
_TOO_FAST: Final = 1000
_LATE: Final = f"from step {FROM_STEP} on"

_SHUFFLED: Final = world.shuffled(world.preferences, "chosen", "rejected")
_SHUFFLED_TEXTS: Final = world.shuffled(
    lambda count, seed: world.compared(world.preferences(count, seed)), "chosen", "rejected"
)

HEALTHY: Final = (
    Scenario("healthy_grpo", "GRPO", "no KL penalty", reward=_NICE),
    Scenario("healthy_grpo_beta", "GRPO", "KL penalty", options={"beta": 0.04}, reward=_NICE),
    Scenario(
        "healthy_grpo_mu",
        "GRPO",
        "two updates for each generation",
        options={"num_iterations": 2, "max_steps": 120},
        reward=_NICE,
    ),
    Scenario(
        "healthy_grpo_eval",
        "GRPO",
        "evaluation, checkpoints",
        options={**_SAVES, "beta": 0.01},
        evaluates=True,
        reward=_NICE,
    ),
    Scenario("healthy_rloo", "RLOO", "", reward=_NICE),
    Scenario("healthy_sft", "SFT", "evaluation", evaluates=True),
    Scenario(
        "healthy_sft_saves",
        "SFT",
        "checkpoints, every third step logged",
        options={**_SAVES, "logging_steps": 3, "max_steps": 150},
        evaluates=True,
    ),
    Scenario("healthy_dpo", "DPO", "evaluation", evaluates=True),
    Scenario("healthy_kto", "KTO", ""),
    Scenario("healthy_reward", "Reward", "evaluation", evaluates=True),
    Scenario("healthy_onlinedpo", "OnlineDPO", "", reward=_NICE),
    Scenario("healthy_ppo", "PPO", ""),
)

_DIVERGED: Final = (
    "loss_spike",
    "grad_norm_spike",
    "entropy_collapse",
    "entropy_blow_up",
    "reward_collapse",
    "nonfinite",
)

_GRPO: Final = (
    Scenario(
        "grpo_lr",
        "GRPO",
        "learning rate x1000",
        (*_DIVERGED, "zero_variance_groups", "truncated_completions"),
        options={"learning_rate": 2.0},
        reward=_NICE,
    ),
    Scenario(
        "grpo_lr_late",
        "GRPO",
        f"learning rate x1000 {_LATE}",
        _DIVERGED,
        FROM_STEP,
        reward=_NICE,
        faults=lambda: [faults.FasterFrom(_TOO_FAST)],
    ),
    Scenario(
        "grpo_kl",
        "GRPO",
        "next to no KL penalty, a reward far from the reference",
        ("kl_drift",),
        options={"beta": 1e-5, "learning_rate": 1e-2},
        reward=rewards.far_away,
    ),
    Scenario(
        "rloo_kl",
        "RLOO",
        "next to no KL penalty, a reward far from the reference",
        ("kl_drift",),
        options={"beta": 1e-5, "learning_rate": 1e-2},
        reward=rewards.far_away,
    ),
    Scenario(
        "grpo_nan_reward",
        "GRPO",
        f"rewards are NaN {_LATE}",
        ("nonfinite", "reward_missing"),
        FROM_STEP,
        reward=rewards.breaks,
    ),
    Scenario(
        "grpo_none_reward",
        "GRPO",
        f"rewards are None {_LATE}",
        ("nonfinite", "reward_missing"),
        FROM_STEP,
        reward=rewards.falls_silent,
    ),
    Scenario("grpo_constant", "GRPO", "constant reward", ("constant_reward",), reward=rewards.constant),
    Scenario(
        "grpo_constant_late",
        "GRPO",
        f"constant reward {_LATE}",
        ("constant_reward", "zero_variance_groups", "zero_gradients"),
        FROM_STEP,
        reward=rewards.becomes_constant,
    ),
    Scenario(
        "rloo_constant",
        "RLOO",
        "constant reward",
        ("constant_reward",),
        options={"beta": 0.0},
        reward=rewards.constant,
    ),
    Scenario(
        "grpo_saturated",
        "GRPO",
        "a reward that all soon reach",
        ("constant_reward", "zero_variance_groups", "zero_gradients"),
        reward=rewards.saturated,
    ),
    Scenario(
        "grpo_by_prompt",
        "GRPO",
        "a reward by the prompt alone",
        ("zero_variance_groups",),
        reward=rewards.by_prompt,
    ),
    Scenario(
        "grpo_length",
        "GRPO",
        "a reward that pays for length",
        ("length_reward", "length_creep"),
        options={"max_completion_length": 32},
        reward=rewards.length,
    ),
    Scenario(
        "grpo_no_eos",
        "GRPO",
        "no end token",
        ("truncated_completions",),
        reward=_NICE,
        prepare=faults.never_ends,
    ),
    Scenario(
        "grpo_frozen", "GRPO", "frozen weights", ("zero_gradients",), reward=_NICE, prepare=faults.freeze
    ),
    Scenario(
        "grpo_lr_zero",
        "GRPO",
        "learning rate 0, checkpoints",
        ("checkpoint_unchanged",),
        options={**_SAVES, "learning_rate": 0.0},
        reward=_NICE,
    ),
    Scenario(
        "grpo_nan_weights",
        "GRPO",
        f"a NaN in the weights at step {FROM_STEP}",
        ("nonfinite",),
        FROM_STEP,
        options={"num_iterations": 2},
        reward=_NICE,
        faults=lambda: [faults.Poison()],
    ),
    Scenario(
        "grpo_stall",
        "GRPO",
        f"a reward that takes a second {_LATE}",
        ("stall",),
        FROM_STEP,
        reward=rewards.stalls,
    ),
    Scenario(
        "grpo_entropy_bonus",
        "GRPO",
        f"an entropy bonus far too high {_LATE}",
        ("entropy_blow_up",),
        FROM_STEP,
        options={"entropy_coef": 1e-6, "learning_rate": 2e-3, "lr_scheduler_type": "constant"},
        start="certain",
        reward=_NICE,
        prepare=faults.raise_bonus,
    ),
    Scenario(
        "grpo_entropy_collapse",
        "GRPO",
        "one word is rewarded, learning rate x10",
        ("entropy_collapse",),
        options={"learning_rate": 2e-2},
        reward=rewards.far_away,
    ),
    Scenario(
        "grpo_hacking",
        "GRPO",
        "a proxy for the reward, the real one in evaluation",
        ("reward_hacking",),
        options={"learning_rate": 5e-3, "beta": 0.001},
        rows=world.told_apart,
        eval_rows=partial(world.told_apart, is_held_out=True),
        evaluates=True,
        reward=rewards.proxy,
    ),
    Scenario(
        "grpo_ratio",
        "GRPO",
        "eight updates for each generation, learning rate x10",
        ("clip_fraction", "ratio_out_of_range"),
        options={"num_iterations": 8, "learning_rate": 2e-2, "max_steps": 120},
        reward=_NICE,
    ),
    Scenario(
        "grpo_sign",
        "GRPO",
        f"the reward's sign lost {_LATE}",
        ("reward_collapse",),
        FROM_STEP,
        reward=rewards.turns,
    ),
)
_OTHERS: Final = (
    Scenario(
        "sft_lr", "SFT", "learning rate x1000", _DIVERGED, options={"learning_rate": 10.0}, evaluates=True
    ),
    Scenario(
        "sft_lr_late",
        "SFT",
        f"learning rate x1000 {_LATE}",
        _DIVERGED,
        FROM_STEP,
        evaluates=True,
        faults=lambda: [faults.FasterFrom(_TOO_FAST)],
    ),
    Scenario(
        "sft_nan_weights",
        "SFT",
        f"a NaN in the weights at step {FROM_STEP}",
        ("nonfinite",),
        FROM_STEP,
        faults=lambda: [faults.Poison()],
    ),
    Scenario(
        "sft_overfits",
        "SFT",
        "16 texts of noise again and again",
        ("overfitting",),
        options={"max_steps": 80},
        rows=world.noise,
        eval_rows=world.noise,
        train_rows=16,
        evaluates=True,
    ),
    Scenario(
        "sft_knocked",
        "SFT",
        f"the last layer x8 before step {FROM_STEP}",
        ("loss_spike", "grad_norm_spike"),
        FROM_STEP,
        faults=lambda: [faults.Knock(8, "lm_head.weight")],
    ),
    Scenario("sft_frozen", "SFT", "frozen weights", ("zero_gradients",), prepare=faults.freeze),
    Scenario(
        "sft_lr_zero",
        "SFT",
        "learning rate 0, checkpoints",
        ("checkpoint_unchanged",),
        options={**_SAVES, "learning_rate": 0.0},
    ),
    Scenario(
        "dpo_lr",
        "DPO",
        "learning rate x1000",
        (*_DIVERGED, "likelihood_displacement"),
        options={"learning_rate": 1.0},
    ),
    Scenario(
        "dpo_lr_late",
        "DPO",
        f"learning rate x1000 {_LATE}",
        (*_DIVERGED, "likelihood_displacement"),
        FROM_STEP,
        faults=lambda: [faults.FasterFrom(_TOO_FAST)],
    ),
    Scenario(
        "dpo_labels",
        "DPO",
        "shuffled labels",
        ("preference_accuracy", "preference_margin"),
        rows=_SHUFFLED,
        eval_rows=_SHUFFLED,
        evaluates=True,
        train_rows=960,
    ),
    Scenario(
        "dpo_displaced",
        "DPO",
        "pairs that hardly differ",
        ("likelihood_displacement",),
        options={"beta": 0.05, "learning_rate": 3e-3},
        rows=world.near_pairs,
    ),
    Scenario(
        "reward_labels",
        "Reward",
        "shuffled labels",
        ("preference_accuracy", "preference_margin"),
        rows=_SHUFFLED_TEXTS,
        eval_rows=_SHUFFLED_TEXTS,
        evaluates=True,
        train_rows=1280,
    ),
    Scenario(
        "reward_overfits",
        "Reward",
        "16 pairs with shuffled labels again and again",
        ("overfitting",),
        rows=_SHUFFLED_TEXTS,
        train_rows=16,
        evaluates=True,
        options={"max_steps": 120},
    ),
    Scenario(
        "kto_one_side",
        "KTO",
        "no bad examples",
        ("kto_empty_side",),
        rows=partial(world.judgements, share_of_good=1.0),
    ),
)
_PPO: Final = (
    Scenario(
        "ppo_lr",
        "PPO",
        "learning rate x1000",
        (*_DIVERGED, "kl_drift_sequence", "ratio_out_of_range", "clip_fraction", "value_loss"),
        options={"learning_rate": 1.0},
    ),
    Scenario(
        "ppo_kl",
        "PPO",
        "no KL penalty, a reward far from the reference",
        ("kl_drift_sequence",),
        options={"kl_coef": 0.0, "learning_rate": 5e-3},
        reward="far_judge",
    ),
    Scenario(
        "ppo_nan_weights",
        "PPO",
        f"a NaN in the value model at step {FROM_STEP}",
        ("nonfinite",),
        FROM_STEP,
        faults=lambda: [faults.Poison("value_model.model.norm.weight")],
    ),
    Scenario(
        "ppo_ratio",
        "PPO",
        "learning rate x10, eight epochs",
        ("ratio_out_of_range", "clip_fraction"),
        options={"learning_rate": 1e-2, "num_ppo_epochs": 8},
    ),
    Scenario(
        "ppo_scale",
        "PPO",
        f"rewards x100 {_LATE}",
        ("value_loss", "value_clipping"),
        FROM_STEP,
        prepare=faults.scale_judge,
    ),
    Scenario(
        "ppo_value",
        "PPO",
        f"the value head x100 before step {FROM_STEP}",
        ("value_loss",),
        FROM_STEP,
        faults=lambda: [faults.Knock(100, "value_model.score.weight")],
    ),
)
FAULTY: Final = (*_GRPO, *_OTHERS, *_PPO)
SCENARIOS: Final = (*HEALTHY, *FAULTY)
