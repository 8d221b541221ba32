"""The rules that RLDK brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rldk.health.rules.completions import LengthCreep, LengthReward, TruncatedCompletions
from rldk.health.rules.drift import KLDrift, KLDriftOfSequences, NegativeKL
from rldk.health.rules.gradients import GradientSpike, LossSpike, ZeroGradients
from rldk.health.rules.memory import MemoryCreep
from rldk.health.rules.numbers import NonFinite, NonFiniteEvaluation, OverflowedGradient
from rldk.health.rules.pace import Hang, SlowSteps
from rldk.health.rules.policy import ClippedUpdates, EntropyBlowUp, EntropyCollapse, RatioOutOfRange
from rldk.health.rules.preferences import (
    KTOEmptySide,
    LikelihoodDisplacement,
    PreferenceAccuracy,
    PreferenceMargin,
)
from rldk.health.rules.rewards import (
    ConstantReward,
    MissingReward,
    RewardCollapse,
    RewardHacking,
    ZeroVarianceGroups,
)
from rldk.health.rules.supervised import Overfitting
from rldk.health.rules.value import ValueClipping, ValueLoss
from rldk.health.rules.weights import DeadLayers, ExplodingLayers, NonFiniteWeights, UnchangedWeights

if TYPE_CHECKING:
    from rldk.health.rule import Rule


def built_in() -> list[Rule]:
    """Every rule of RLDK, in the order in which reports show them."""
    return [
        NonFinite(),
        NonFiniteEvaluation(),
        OverflowedGradient(),
        GradientSpike(),
        ZeroGradients(),
        LossSpike(),
        KLDrift(),
        KLDriftOfSequences(),
        NegativeKL(),
        ClippedUpdates(),
        RatioOutOfRange(),
        EntropyCollapse(),
        EntropyBlowUp(),
        MissingReward(),
        RewardCollapse(),
        RewardHacking(),
        ConstantReward(),
        ZeroVarianceGroups(),
        TruncatedCompletions(),
        LengthCreep(),
        LengthReward(),
        ValueLoss(),
        ValueClipping(),
        PreferenceAccuracy(),
        PreferenceMargin(),
        LikelihoodDisplacement(),
        KTOEmptySide(),
        Overfitting(),
        SlowSteps(),
        Hang(),
        MemoryCreep(),
        NonFiniteWeights(),
        UnchangedWeights(),
        ExplodingLayers(),
        DeadLayers(),
    ]
