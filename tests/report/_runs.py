"""Runs to tell of: made by hand, and as real trainers logged them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rldk.event import Event
from rldk.normalize import normalize

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
BEGAN = 1_763_847_600.0
NAMES = {"grpo": "GRPO", "ppo": "PPO", "dpo": "DPO", "sft": "SFT", "kto": "KTO", "rloo": "RLOO"}


def event(kind, step, metrics=None, *, run="abc123", phase="train", segment=0, **facts):
    """One event; its time follows from its step."""
    at = step * 2.0 + {"run": 0.0, "metrics": 0.1, "resource": 0.2, "checkpoint": 0.3, "alert": 0.4}.get(
        kind, 0.5
    )
    info = {"run_id": run, "phase": phase, "segment": segment, "git_sha": "0123abc", **facts}
    return Event(
        kind=kind,
        step=step,
        time=BEGAN + at,
        wall_time=at,
        metrics=metrics or {},
        rng={"seed": 42},
        data_slice={},
        model_info=info,
        notes=[],
    )


def alert(step, state="firing", severity="warning", **told):
    """An alert event of the KL's rule."""
    usual = {
        "rule": "kl_drift",
        "title": "KL drift",
        "message": f"KL drift: it is {severity} at step {step}",
        "evidence": {"recent_median": 0.83, "baseline_median": math.nan},
        "metrics": ["kl_mean"],
        "since_step": step,
        "advice": "lower the learning rate",
        "source": "https://arxiv.org/abs/1707.06347",
        "verdict": severity,
        "firing": ["kl_drift"] if state == "firing" else [],
    }
    facts = {key: told.pop(key) for key in ("run", "segment") if key in told}
    return event("alert", step, alert={**usual, "state": state, "severity": severity, **told}, **facts)


def standing(rule, title, state, reason, **facts):
    """What the end's health tells of a rule."""
    usual = {"severity": None, "advice": "", "source": "", "metrics": [], "applies": True}
    counts = {"alerts": 0, "first_step": None, "last_step": None, "points": 0}
    return {"rule": rule, "title": title, "state": state, "reason": reason, **usual, **counts, **facts}


HEALTH = {
    "verdict": "critical",
    "firing": [],
    "rules": [
        standing("kl_drift", "KL drift", "ok", "it is 0.04", severity="critical", alerts=1, first_step=6),
        standing("clipping", "Clipped ratios", "unavailable", "on-policy: nothing can be clipped"),
        standing("value_loss", "Value loss", "unavailable", "it is about PPO", applies=False),
    ],
}


def eventful(run="abc123"):
    """A GRPO run in which everything happens that a run can tell of."""
    yield event("run", 0, run=run, trainer="GRPO", versions={"trl": "1.16.0"}, name="maths", host={"cpus": 8})
    for step in range(1, 13):
        metrics = {
            "reward_mean": 0.1 * step,
            "kl_mean": 0.04,
            "loss": 1.0 / step,
            "lr": 1e-6,
            "own": 2.0 * step,
        }
        metrics["grad_norm"] = math.nan if step == 5 else 1e6 if step == 7 else 1.0
        yield event("metrics", step, metrics, run=run)
        gpu = {"gpu0_memory_used_frac": 0.05 * step, "gpu0_util_percent": 90.0}
        yield event("resource", step, {"process_rss_bytes": step * 2**30, **gpu}, run=run)
        if step % 4 == 0:
            yield event("metrics", step, {"loss": 1.1 / step, "reward_mean": math.inf}, run=run, phase="eval")
            numbers = {"files": 3, "size_bytes": 1000 * step, "nonfinite_count": 7 if step == 12 else 0}
            findings = [{"rule": "checkpoint_nonfinite", "severity": "critical", "message": "7 are NaN"}]
            analysis = {"findings": findings if step == 12 else []}
            yield event(
                "checkpoint", step, numbers, run=run, checkpoint=f"out/checkpoint-{step}", analysis=analysis
            )
        if step in {6, 8}:
            yield alert(step, severity="warning" if step == 6 else "critical", run=run)
        if step == 9:
            yield alert(step, "ok", "critical", run=run)
    yield event(
        "end", 12, {"train_loss": 0.5}, run=run, status="FAILED", stopped_by="kl_drift@6", health=HEALTH
    )


def quick(run="abc123"):
    """A run that is soon told of: one metric, three steps."""
    yield event("run", 0, run=run)
    yield from (event("metrics", step, {"loss": 1.0 / step}, run=run) for step in (1, 2, 3))
    yield event("end", 3, run=run, status="FINISHED")


def recorded(name):
    """What a real trainer logged, as the events that RLDK makes of it."""
    trainer = NAMES[name.split("_")[1].removesuffix(".jsonl")]
    yield event("run", 0, run=name, trainer=trainer)
    for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines():
        log = json.loads(line)
        told = normalize(log["logs"], trainer)
        if told.train:
            yield event("metrics", log["global_step"], told.train, run=name)
        if told.eval:
            yield event("metrics", log["global_step"], told.eval, run=name, phase="eval")
    yield event("end", log["global_step"], told.summary, run=name, status="FINISHED")
