"""What do all fragments of a run on disk say together?"""

from __future__ import annotations

import heapq
from itertools import chain
from typing import TYPE_CHECKING, Any

from rldk_wandb.names import SEQ, TIME
from rldk_wandb.offline import Run, Survey, WandbFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class DiskRun:
    """One run in one file or several, of which the earlier come first."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [WandbFile(path) for path in files]
        self._found: list[Survey] = []

    def run(self) -> Run:
        """What the files say of the run: the last word on each, but for the summary.

        Raises:
            SourceError: A file cannot be opened.
        """
        self._found = [file.survey(SEQ) for file in self._files]
        return _united([found.run for found in self._found])

    def ours(self) -> Iterator[dict[str, Any]]:
        """The rows of RLDK, in the order of their time."""
        rows = (file.rows_at(found.with_key) for file, found in self._pairs())
        return heapq.merge(*rows, key=_time)

    def theirs(self) -> Iterator[dict[str, Any]]:
        """The rows of all others, in the order in which they were logged."""
        return chain.from_iterable(
            file.rows_at(found.without_key, found.summary) for file, found in self._pairs()
        )

    def summary(self) -> dict[str, Any]:
        """What W&B shows as the run's numbers, but for RLDK's, once the rows of all others have been read."""
        return {key: value for found in self._found for key, value in found.summary.entries().items()}

    def problems(self) -> list[str]:
        """What could not be read, once all rows have been; a sentence each."""
        told: list[str] = []
        for file, found in self._pairs():
            where = file.path.name if len(self._files) == 1 else _short(file.path)
            sentences = [] if found.run.has_ended else [_GOING]
            told += [f"{where}: {sentence}" for sentence in sentences + file.damage.sentences()]
        return told

    def _pairs(self) -> Iterator[tuple[WandbFile, Survey]]:
        return zip(self._files, self._found, strict=True)


_GOING = "the run is still going or was killed; its last rows may be missing"


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _time(row: dict[str, Any]) -> float:
    at = row.get(TIME)
    return float(at) if isinstance(at, int | float) else 0.0


def _united(runs: Sequence[Run]) -> Run:
    first, last = runs[0], runs[-1]
    return Run(
        run_id=_last_word([run.run_id for run in runs]),
        entity=_last_word([run.entity for run in runs]),
        project=_last_word([run.project for run in runs]),
        name=_last_word([run.name for run in runs]),
        notes=_last_word([run.notes for run in runs]),
        tags=next((run.tags for run in reversed(runs) if run.tags), []),
        start_time=first.start_time,
        config={key: value for run in runs for key, value in run.config.items()},
        axes=[axis for run in runs for axis in run.axes],
        artifacts={name: artifact for run in runs for name, artifact in run.artifacts.items()},
        exit_code=last.exit_code,
        is_preempted=last.is_preempted,
    )


def _last_word(said: list[str]) -> str:
    return next(filter(None, reversed(said)), "")
