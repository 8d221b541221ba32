"""What does an MLflow run tell of the event that begins a segment: its params, its tags, its name."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from rldk.bridge import health_tags, run_tags
from rldk_mlflow.names import escape

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from rldk.event import Event

FOLDER: Final = "rldk"
OURS: Final = "rldk."
SYSTEM: Final = "mlflow."
RAW: Final = "rldk.raw"
NOTES: Final = "mlflow.note.content"
STOPPED_BY: Final = "rldk.stopped_by"
HEALTH_AT: Final = "rldk.health_at"
"""When the event was that the other tags on the run's health are of: an older one changes nothing."""

MAX_PARAM: Final = 6000
MAX_TAG: Final = 8000
_MAX_NAME: Final = 250  # what the column `name` of the table `runs` holds


def params(run: Event) -> dict[str, str]:
    """The arguments, below `args/`, and the `config` under its own names; as long as they are."""
    told = _flattened(_mapping(run, "config"), "")
    if "mlflow" not in (run.model_info.get("report_to") or ()):
        # Else transformers' MLflowCallback logs the arguments itself, under their bare names.
        told |= _flattened(_mapping(run, "args"), "args/")
    return {escape(name): _text(value) for name, value in told.items()}


def tags(run: Event, known: Container[str]) -> dict[str, str]:
    """What `run_tags` gives, and the run's own tags; what MLflow itself has set is left as it is."""
    facts = {f"{OURS}{key}": value for key, value in run_tags(run).items()}
    facts |= {RAW: "true"} if run.is_raw else {}
    notes = run.model_info.get("notes")
    others = ({NOTES: notes} if notes else {}) | _mapping(run, "tags")
    said = {escape(str(name)): _text(value) for name, value in others.items()}
    allowed = {name: value for name, value in said.items() if _may_set(name, known)} | facts
    return {name: shortened(_utf8(value), MAX_TAG, path_of(run)) for name, value in allowed.items()}


def run_name(run: Event) -> str:
    """The name that a new run gets."""
    name = _utf8(str(run.model_info.get("name") or run.run_id))
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 2]} …"


def file_name(run: Event) -> str:
    """The artifact that holds the whole event, below `FOLDER`."""
    return f"run_{run.segment}.json"


def health_at(tags: Mapping[str, str]) -> float:
    """When the event was that a run's tags on its health are of; before all where they do not say."""
    try:
        return float(tags.get(HEALTH_AT, "-inf"))
    except ValueError:  # somebody has edited it
        return -math.inf


def health(event: Event) -> dict[str, str]:
    """What `health_tags` gives, as tags."""
    told = health_tags(event).items()
    return {escape(f"{OURS}{k}"): shortened(_utf8(v), MAX_TAG, "the journal") for k, v in told}


def path_of(run: Event) -> str:
    """Where the whole event is among the artifacts."""
    return f"{FOLDER}/{file_name(run)}"


def shortened(text: str, limit: int, where: str) -> str:
    """Cut a text that MLflow would refuse, and say in it where the rest is."""
    if len(text) <= limit:
        return text
    note = f" … (whole in {where})"
    return text[: limit - len(note)] + note


def _may_set(tag: str, known: Container[str]) -> bool:
    return not tag.startswith(OURS) and not (tag.startswith(SYSTEM) and tag in known)


def _mapping(run: Event, field: str) -> dict[str, Any]:
    found = run.model_info.get(field)
    return found if isinstance(found, dict) else {}


def _flattened(nested: Mapping[str, Any], head: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        is_inner = isinstance(value, dict) and value
        flat |= _flattened(value, f"{head}{name}.") if is_inner else {f"{head}{name}": value}
    return flat


def _text(value: object) -> str:
    return _utf8(json.dumps(value, default=str) if isinstance(value, dict | list) else str(value))


def _utf8(text: str) -> str:
    # A lone surrogate, as in a file name of raw bytes, fails in any database driver.
    return text.encode("utf-8", "replace").decode()
