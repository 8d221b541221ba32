"""Runs that differ in one thing: journals made by hand, and as real trainers logged them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rldk import event as event_json
from rldk.event import Event
from rldk.normalize import normalize

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"
BEGAN = 1_763_847_600.0
ARGS = {"learning_rate": 1e-6, "beta": 0.04, "output_dir": "out"}
SEVEN = {"rng": {"seed": 42}, "data_slice": {}, "notes": []}


def event(run, step, metrics=None, kind="metrics", phase="train", **facts):
    """One event; its time follows from its step."""
    info = {"run_id": run, "phase": phase, "segment": 0, **facts}
    return Event(
        kind=kind,
        step=step,
        time=BEGAN + step + (phase == "eval") / 2,
        wall_time=float(step),
        metrics=metrics or {},
        model_info=info,
        **SEVEN,
    )


def curves(step):
    """What a run measures at a step: reward with noise that is the same each time, KL, a rate, a speed."""
    return {
        "reward_mean": step / 40 + 0.05 * math.sin(7 * step),
        "kl_mean": 0.01 * step,
        "lr": 1e-6 * (1 - step / 40),
        "tokens_per_second": 100.0 + step,
    }


def write(folder, run, change=lambda _, metrics: metrics, steps=range(1, 41), every=10, **facts):
    """Write a GRPO run's journal; `change` gives other metrics for a step, or None for no log."""
    facts = {"trainer": "GRPO", "args": ARGS, "versions": {"trl": "1.16.0"}, "git_sha": "abc"} | facts
    seed, status = facts.pop("seed", 42), facts.pop("status", "FINISHED")
    events = [event(run, 0, kind="run", **facts)]
    for step in steps:
        metrics = change(step, curves(step))
        if metrics is not None:
            events.append(event(run, step, metrics))
        if every and step % every == 0:
            events.append(event(run, step, {"loss": 1 / step, "runtime": 0.1 * step}, phase="eval"))
    events.append(event(run, steps[-1], kind="end", status=status))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run}_events.jsonl"
    with path.open("wb") as out:
        for number, each in enumerate(events):
            numbered = {**json.loads(event_json.encode(each)), "seq": number, "rng": {"seed": seed}}
            out.write(json.dumps(numbered).encode() + b"\n")
    return path


def write_recorded(folder, name, trainer):
    """Write the journal of what a real trainer logged."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_events.jsonl"
    events = [event(name, 0, kind="run", trainer=trainer)]
    for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines():
        log = json.loads(line)
        told = normalize(log["logs"], trainer)
        for phase, metrics in (("train", told.train), ("eval", told.eval)):
            events += [event(name, log["global_step"], metrics, phase=phase)] if metrics else []
    path.write_bytes(b"".join(event_json.encode(each) + b"\n" for each in events))
    return path
