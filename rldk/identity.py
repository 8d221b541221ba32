"""Which run is this: its id, its code, and a file name that no id can escape from."""

from __future__ import annotations

import hashlib
import re
import secrets
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PRECEDENCE: Final = ("wandb", "mlflow")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_MAX_LENGTH: Final = 120
_GIT_TIMEOUT_S: Final = 5.0


class Identity(NamedTuple):
    """The id of a run and who gave it."""

    run_id: str
    origin: str
    continues: str | None = None
    """The run whose checkpoint this one resumes, where it is another one."""


def settle(
    given: str | None, tracker_runs: Mapping[str, str], resumed: str | None, run_name: str | None
) -> Identity:
    """Decide the run's id.

    It is the argument, else the active W&B run's id, else the active MLflow run's, else what the
    resumed checkpoint records, else the trainer's `run_name` made unique, else a fresh one.

    Args:
        given: What the user passed as `run_id`.
        tracker_runs: Tracker name to the id of its active run.
        resumed: The run that the resumed checkpoint records.
        run_name: The name that the trainer's arguments give.
    """
    run_id, origin = _chosen(given, tracker_runs, resumed, run_name)
    return Identity(run_id, origin, resumed if resumed != run_id else None)


def _chosen(
    given: str | None, tracker_runs: Mapping[str, str], resumed: str | None, run_name: str | None
) -> tuple[str, str]:
    if given:
        return safe_name(given), "the run_id argument"
    others = sorted(set(tracker_runs) - set(_PRECEDENCE))
    for tracker in (*_PRECEDENCE, *others):
        if tracker in tracker_runs:
            return safe_name(tracker_runs[tracker]), f"the active {tracker} run"
    if resumed:
        return safe_name(resumed), "the resumed checkpoint"
    if run_name:
        return another(run_name), "the trainer's run_name"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}", "a fresh id"


def another(name: str) -> str:
    """An id that begins like the name, and that no other run has."""
    return safe_name(f"{name}-{secrets.token_hex(4)}")


def safe_name(run_id: str) -> str:
    """Make an id usable as a file name on every system, without secrets; different ids stay different."""
    safe = _UNSAFE.sub("_", redact_text(run_id))[:_MAX_LENGTH]
    if safe == run_id and safe and not safe.startswith("."):
        return safe
    mark = f"-{hashlib.sha256(run_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return (safe.lstrip(".") or "run")[: _MAX_LENGTH - len(mark)] + mark


def git_sha(folder: Path) -> str | None:
    """Commit that is checked out in a folder; None outside a repository or without git."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False, text=True)  # noqa: S603  # no shell, no user text
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
