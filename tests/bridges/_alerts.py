"""What the tests of alerts share: alerts and the end of a run, as the recorder writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

LEVELS = {"info": 1, "warning": 2, "critical": 3}


def alert(event: Callable[..., Event], at: float, step: int, severity: str = "warning", **said: Any) -> Event:
    """An alert of one rule, which fires unless its state says else."""
    told = {
        "rule": "kl_drift",
        "title": "KL drift",
        "state": "firing",
        "severity": severity,
        "message": f"KL drift: 0.83 nats/token at step {step}",
        "evidence": {"recent_median": 0.83, "limit": float("inf")},
        "metrics": ["kl_mean"],
        "since_step": step,
        "advice": "Lower the learning rate",
        "source": "https://example.org/kl",
        "verdict": severity,
    } | said
    told.setdefault("firing", [told["rule"]] if told["state"] == "firing" else [])
    level = LEVELS[severity] if told["state"] == "firing" else 0
    return event(
        at,
        kind="alert",
        step=step,
        metrics={told["rule"]: level},
        notes=[told["message"]],
        model_info={"alert": told},
    )


def judged(
    rule: str = "kl_drift", state: str = "firing", severity: str | None = "warning", **said: Any
) -> dict[str, Any]:
    """What the end says of one rule."""
    told = {
        "rule": rule,
        "title": rule.replace("_", " ").capitalize(),
        "state": state,
        "severity": severity,
        "reason": f"{rule} is 21 times its baseline",
        "advice": "Lower the learning rate",
        "source": "",
        "metrics": [],
        "alerts": int(severity is not None),
        "first_step": 110,
        "last_step": 160,
        "points": 40,
    }
    return told | said


def end(
    event: Callable[..., Event], at: float, *rules: dict[str, Any], verdict: str = "ok", **facts: Any
) -> Event:
    """The end of a run, with what is said of its health."""
    firing = [rule["rule"] for rule in rules if rule["state"] == "firing"]
    health = {"verdict": verdict, "firing": firing, "rules": list(rules)}
    return event(at, kind="end", step=200, model_info={"status": "FINISHED", "health": health} | facts)
