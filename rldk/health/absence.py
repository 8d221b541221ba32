"""Why has a run not logged a metric?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rldk import catalog

if TYPE_CHECKING:
    from rldk.health.window import Window

_HAS_KL = ("GRPO", "RLOO")


def why_absent(name: str, part: str, window: Window) -> str:
    """Say in a sentence why a metric is not there, as well as the trainer and its arguments tell."""
    if part == "eval":
        return f"no evaluation has logged {name}"
    if part in {"resource", "checkpoint"}:
        return f"{name} was not measured"
    trainer = window.trainer
    if name == "kl_mean" and trainer in _HAS_KL:
        return _no_kl(trainer, is_off=window.argument("beta") == 0)
    lines = [(m, line) for m, line in catalog.logged_by(trainer) if m.name == name] if trainer else []
    if not trainer or not lines:
        who = f"{trainer} does not log" if trainer else "the run has not logged"
        return f"{who} {name}"
    now = [line for metric, line in catalog.logged_by(trainer, window.trl) if metric.name == name]
    if window.trl and not now:
        return f"{trainer} of TRL {window.trl} does not log {name}"
    notes = "; ".join(line.note for line in now if line.note)
    return f"{name} was not logged" + (f" ({notes})" if notes else "")


def _no_kl(trainer: str, *, is_off: bool) -> str:
    if is_off:
        return f"beta is 0, so {trainer} measures no KL to a reference"
    return f"kl_mean was not logged; {trainer} measures it only where beta is not 0"
