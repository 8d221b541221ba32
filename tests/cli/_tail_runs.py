"""Journals for the tests of `rldk tail`: written as the recorder writes them, event by event."""

from __future__ import annotations

import time

from rldk.event import Event
from rldk.journal import Journal


class Writer:
    """Writes a run's events into its journal, one log a second."""

    def __init__(self, folder, run_id="abc", trainer="GRPO", **args):
        self.path = folder / f"{run_id}_events.jsonl"
        self.journal = Journal(self.path)
        self.run_id = run_id
        self.began = round(time.time() - 60, 3)
        self.time = self.began
        self.seq = 0
        self.add("run", 0, trainer=trainer, args=args, tracker_runs={"mlflow": "m1"})

    def add(self, kind, step, metrics=None, notes=(), phase="train", after=1.0, **facts):
        """Append an event."""
        self.time = round(self.time + after, 3)
        event = Event(
            kind=kind,
            seq=self.seq,
            time=self.time,
            step=step,
            wall_time=round(self.time - self.began, 3),
            metrics=metrics or {},
            rng={},
            data_slice={},
            model_info={"run_id": self.run_id, "phase": phase, "segment": 0, **facts},
            notes=list(notes),
        )
        self.seq += 1
        self.journal.append(event)
        return event

    def logs(self, first, last, **metrics):
        """Append a training log for each step."""
        for step in range(first, last + 1):
            self.add("metrics", step, {"reward_mean": step / 100, "loss": 1 / step, **metrics})

    def alert(self, step, severity="critical", state="firing", verdict=None):
        """Append an alert of kl_drift."""
        told = {"rule": "kl_drift", "severity": severity, "state": state, "metrics": ["kl_mean"]}
        told |= {"verdict": verdict or severity, "firing": ["kl_drift"] if state == "firing" else []}
        self.add("alert", step, {"kl_drift": 3}, ["KL drift: far off"], alert=told)

    def end(self, step, status="FINISHED", verdict="ok"):
        """Append the end, and let the journal go."""
        self.add("end", step, status=status, health={"verdict": verdict, "firing": [], "rules": []})
        self.journal.close()
