"""What do the checkpoints say?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rldk.health.rule import LEVELS, Evidence, Rule, Severity, Verdict, ok, units

if TYPE_CHECKING:
    from rldk.health.window import Window


class CheckpointFinding(Rule):
    """Repeats what the analysis of a checkpoint has found; see `rldk.health.checkpoints`."""

    part = "checkpoint"
    cooldown = 1

    def judge(self, window: Window) -> Verdict:
        """Fire where the newest checkpoint has a finding of this name."""
        analysis = window.facts.get("analysis")
        findings = analysis.get("findings") if isinstance(analysis, Mapping) else None
        where = str(window.facts.get("checkpoint") or f"the checkpoint of step {window.step}")
        for found in findings if isinstance(findings, list) else ():
            if isinstance(found, Mapping) and found.get("rule") == self.name:
                return _fired(found, where)
        return ok(f"{where} is fine")


def _fired(found: Mapping[str, Any], where: str) -> Verdict:
    severity: Severity = found["severity"] if found.get("severity") in LEVELS else "warning"
    evidence = found.get("evidence")
    told: Evidence = {str(k): v for k, v in evidence.items()} if isinstance(evidence, Mapping) else {}
    return Verdict("firing", str(found.get("message") or where), severity, {**told, "checkpoint": where})


class NonFiniteWeights(CheckpointFinding):
    """NaN or an infinity among the weights that were saved."""

    name = "checkpoint_nonfinite"
    title = "Checkpoint with non-finite weights"
    reads = units(nonfinite_count="1")
    meaning = "the checkpoint holds NaN or an infinity: it is of no use"
    advice = "go on from an earlier checkpoint; the report names the last one whose weights are all finite"
    source = "counted in each tensor"


class UnchangedWeights(CheckpointFinding):
    """The weights are those of the checkpoint before."""

    name = "checkpoint_unchanged"
    title = "Checkpoint without a change"
    reads = units(relative_change="1")
    meaning = "steps have passed, and no weight has moved"
    advice = (
        "check the learning rate, requires_grad, and that the optimizer holds the parameters of the "
        "model that is saved"
    )
    source = "relative L2 norm of the difference, over all tensors"


class ExplodingLayers(CheckpointFinding):
    """Some tensors have grown far beyond the others."""

    name = "checkpoint_exploding_layers"
    title = "Exploding layers"
    reads = units(exploding_tensors="1")
    meaning = "the norm of a few layers has become a multiple of what it was"
    advice = "lower the learning rate, clip the gradient, and go on from an earlier checkpoint"
    source = "comparison with the run's own first checkpoint"


class DeadLayers(CheckpointFinding):
    """Tensors that are zero now and were not."""

    name = "checkpoint_dead_layers"
    title = "Dead layers"
    reads = units(dead_tensors="1")
    meaning = "whole tensors have become zero, and pass nothing on"
    advice = (
        "look for weight decay without a gradient, for pruning, or for a tensor that was not saved as it is"
    )
    source = "comparison with the run's own first checkpoint"
