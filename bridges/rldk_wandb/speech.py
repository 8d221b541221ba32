"""How does W&B tell people of a run's health: alerts, the run's summary, and the report in the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rldk.bridge import PREFIX, REPORT, health_tags, logger
from rldk.event import utf8
from rldk_wandb import names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import wandb

    from rldk.event import Event

_logger = logger(__name__)

_LEVELS: Final = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}
_LONGEST_TITLE: Final = 63  # wandb: "must be less than 64 characters long"
_LONGEST_TEXT: Final = 2000
_LONGEST_ENTRY: Final = 2000
_ALERT: Final = "alert."
_WAIT_S: Final = 0.001
"""For how long W&B holds back alerts of one title: it takes 0 for its default, a minute, in which a rule's
next word would get lost. RLDK's rules speak only when something changes."""


def alert(run: wandb.Run, event: Event) -> None:
    """Send the alert that begins to fire, or got worse; one that is over is no news to wake people for.

    W&B sends it to those who asked for it, by mail or Slack. Offline it waits in the run's file for
    `wandb sync`.

    Raises:
        UsageError: The run is finished.
    """
    said = event.model_info.get("alert")
    if event.kind != "alert" or not isinstance(said, dict) or said.get("state") != "firing":
        return
    from wandb.errors import Error, UsageError

    title, text = _title(said), _text(said, event.step)
    try:
        run.alert(title, text, level=_LEVELS.get(str(said.get("severity")), "INFO"), wait_duration=_WAIT_S)
    except UsageError:
        raise
    except (Error, TypeError, ValueError) as error:
        # Its row is worth more; a connection that broke is another error, and is tried again.
        _logger.warning("wandb: run %s does not take the alert %r: %s", run.id, title, error)


def _title(said: dict[str, Any]) -> str:
    # With the severity, so that a rule that gets worse within the wait is another title.
    tail = f" ({said.get('severity')})"
    head = utf8(" ".join(str(said.get("title") or said.get("rule")).split()))
    room = _LONGEST_TITLE - len(tail)
    return (head if len(head) <= room else f"{head[: room - 2]} …") + tail


def _text(said: dict[str, Any], step: int) -> str:
    message = f"Step {step}: {said.get('message')}"
    more = [
        f"{name}: {said[key]}"
        for key, name in {"advice": "Advice", "source": "Source"}.items()
        if said.get(key)
    ]
    return _cut("\n\n".join([message, *more, f"RLDK rule {said.get('rule')}"]), _LONGEST_TEXT)


def summary(event: Event) -> dict[str, str]:
    """What the run's summary, and so the table of runs, is to say after an alert or the end.

    Returns:
        `rldk/health` is the verdict alone, by which runs can be filtered and grouped,
        `rldk/health_rules` the rules that fire, `rldk/health/<rule>` what a rule said last, and
        `rldk/stopped_by` which rule has stopped the run.
    """
    told = health_tags(event)
    if "health" in told:
        told["health"], _, told["health_rules"] = told["health"].partition(": ")
    if event.kind == "end" and "health" in told and event.segment:
        told.setdefault("stopped_by", "")  # an earlier segment may have been stopped
    named = {
        f"health/{key.removeprefix(_ALERT)}" if key.startswith(_ALERT) else key: told[key] for key in told
    }
    return {names.escape(f"{PREFIX}{key}"): _cut(value, _LONGEST_ENTRY) for key, value in named.items()}


def _cut(text: str, most: int) -> str:
    said = utf8(text)
    return said if len(said) <= most else f"{said[: most - 2]} …"


def show_report(run: wandb.Run, files: Iterable[Path], step: int) -> bool:
    """Log the report as a page that opens in the run's workspace; tell whether there was one.

    Raises:
        UsageError: The run is finished.
    """
    found = next((path for path in files if path.name.endswith(REPORT)), None)
    if found is None:
        return False
    import wandb

    try:
        page = wandb.Html(found.read_text(encoding="utf-8"), inject=False, data_is_not_path=True)
    except (OSError, ValueError) as error:  # it is gone, or is no text
        _logger.warning("wandb: %s cannot be shown: %s", found, error)
        return False
    run.define_metric(names.REPORT, step_metric=names.STEP, step_sync=False)
    run.log({names.STEP: step, names.REPORT: page})
    return True
