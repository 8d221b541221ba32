"""How do the files get to the disk that tell of a run: each whole or not at all, and without each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rldk import export, files
from rldk.errors import RLDKError
from rldk.identity import safe_name
from rldk.report import documents
from rldk.report.page import page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from rldk.delivery import DeliveryReport
    from rldk.report.schema import FinalReport
    from rldk.report.story import Story

METRICS: Final = "_metrics.csv"
ALERTS: Final = "_alerts.json"
FINAL_REPORT: Final = "_final_report.json"
PAGE: Final = "_report.html"

_BESIDE: Final = ("_events.jsonl", "_post_mortem.md")


class OutputsError(RLDKError):
    """Some of a run's files could not be written.

    Attributes:
        written: Those that were.
        failures: What went wrong, by file.
    """

    def __init__(self, written: list[Path], failures: dict[Path, str]) -> None:
        told = "; ".join(failures.values())
        super().__init__(f"{len(failures)} of {len(written) + len(failures)} files are not written: {told}")
        self.written = written
        self.failures = failures


def write_all(
    story: Story,
    folder: Path,
    *,
    deliveries: Iterable[DeliveryReport] = (),
    health: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write all that is told of a run: its table, alerts, final report and page.

    A file that cannot be written leaves the others alone, and what was there before it as it was.

    Args:
        story: The run.
        folder: Where the files go; it is made.
        deliveries: What each tracker has of the run.
        health: What is to be told of its health where its end event tells nothing (the contract's `health`).

    Returns:
        The files.

    Raises:
        OutputsError: Some could not be written; the others were.
    """
    stem, told = safe_name(story.run_id), list(deliveries)
    names = [stem + ending for ending in (METRICS, ALERTS, FINAL_REPORT, PAGE)]
    beside = [stem + ending for ending in _BESIDE if (folder / (stem + ending)).is_file()]

    def report() -> FinalReport:
        return documents.final_report(story, deliveries=told, health=health, files=sorted(names + beside))

    makers: tuple[Callable[[Path], object], ...] = (
        lambda path: export.write(story.table, path, "csv"),
        lambda path: _write(path, documents.as_json(documents.alerts_file(story))),
        lambda path: _write(path, documents.as_json(report())),
        lambda path: _write(path, page(story, report())),
    )
    written, failures = [], {}
    for name, make in zip(names, makers, strict=True):
        path = folder / name
        try:
            files.make_folder(folder)
            make(path)
            written.append(path)
        except RLDKError as error:
            failures[path] = str(error)
        except OSError as error:
            failures[path] = f"cannot write {path}: {error}"
    if failures:
        raise OutputsError(written, failures)
    return written


def _write(path: Path, content: bytes) -> None:
    with export.replacing(path) as new:
        new.write_bytes(content)
