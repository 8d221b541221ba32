"""What is written of a run when it is over, beside its journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk import export, journal
from rldk.errors import RLDKError
from rldk.health import checkpoints
from rldk.redact import logger
from rldk.report.documents import as_json, delivered
from rldk.report.outputs import FINAL_REPORT, OutputsError, write_all
from rldk.report.post_mortem import advice, post_mortem
from rldk.report.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rldk.delivery import DeliveryReport

_logger = logger(__name__)

POST_MORTEM: Final = "_post_mortem.md"


def write(path: Path, deliveries: Iterable[DeliveryReport]) -> list[Path]:
    """Write what a journal tells of its run beside it; what cannot be written is said and left out.

    Args:
        path: The journal.
        deliveries: What each tracker has of the run so far.

    Returns:
        The files.
    """
    try:
        story = Story.of(entry.event for entry in journal.read(path) if entry.event is not None)
        files = _post_mortem(story, path)
        return [*files, *write_all(story, path.parent, deliveries=deliveries)]
    except OutputsError as error:
        _logger.warning("%s", error)
        return error.written
    except (RLDKError, OSError) as error:
        _logger.warning("no report of %s is written: %s", path, error)
        return []


def write_deliveries(path: Path, deliveries: Iterable[DeliveryReport]) -> None:
    """Tell the final report beside a journal what the trackers have got in the end."""
    file = path.with_name(path.name.removesuffix(journal.SUFFIX) + FINAL_REPORT)
    try:
        told: dict[str, Any] = msgspec.json.decode(file.read_bytes())
        told["delivery"] = {report.tracker: delivered(report) for report in deliveries}
        with export.replacing(file) as new:
            new.write_bytes(as_json(told))
    except (OSError, msgspec.DecodeError) as error:
        _logger.warning("%s does not tell what the trackers have got: %s", file, error)


def _post_mortem(story: Story, path: Path) -> list[Path]:
    """Write the post-mortem of a run that was stopped, or has failed; take away that of an earlier start."""
    file = path.with_name(path.name.removesuffix(journal.SUFFIX) + POST_MORTEM)
    told = {} if story.end is None else story.end.model_info
    if not told.get("stopped_by") and told.get("status") != "FAILED":
        file.unlink(missing_ok=True)
        return []
    rule = str(told.get("stopped_by") or "").rpartition("@")[0]
    worst = [each for each in reversed(story.episodes) if each.rule == rule or each.severity == "critical"]
    episode = min(worst, key=lambda each: each.rule != rule, default=None)
    since = story.end.step + 1 if episode is None and story.end is not None else 0
    since = since if episode is None else episode.since_step
    found = advice(story, since, lambda folder: checkpoints.is_finite(Path(folder)))
    with export.replacing(file) as new:
        new.write_text(post_mortem(story, episode, since, found), encoding="utf-8")
    return [file]
