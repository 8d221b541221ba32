"""What do all fragments of a run on disk say together?"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rldk_wandb.names import SEQ, TIME
from rldk_wandb.offline import Run, Survey, WandbFile
from rldk_wandb.raw import STEP_OF_WANDB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class DiskRun:
    """One run in one file or several, of which the earlier come first."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [WandbFile(path) for path in files]
        self._found: list[Survey] = []
        self._is_recounted = False

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
        """The rows of all others, in the order in which they were logged, and counted on if W&B did not."""
        if len(self._files) > 1:
            return self._counted_on()
        return self._files[0].rows_at(self._found[0].without_key, self._found[0].summary)

    def _counted_on(self) -> Iterator[dict[str, Any]]:
        """Let W&B's count of rows go on from one fragment to the next: offline, each begins at 0.

        One that does not was resumed online, where it goes on, or has steps that the script gave.
        """
        end, offsets = 0, dict[float | Path, int]()
        for file, found in self._pairs():
            begins_anew = end > 0 and _first_step(file, found) == 0
            # The copy of a fragment began when that did, and has the same rows: it counts as that does.
            who = found.run.start_time or file.path
            offset = offsets.setdefault(who, end if begins_anew else 0)
            for row in file.rows_at(found.without_key, found.summary):
                step = row.get(STEP_OF_WANDB)
                if isinstance(step, int):
                    row[STEP_OF_WANDB] = step + offset
                    end = max(end, step + offset + 1)
                    self._is_recounted |= offset > 0
                yield row

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

    def recounted(self) -> str:
        """Whether rows were counted otherwise than W&B does, once all have been read; a sentence."""
        times = f"it was opened {len(self._files)} times"
        said = f"{times}; W&B counts the rows of each from 0, and they are counted on here"
        return said if self._is_recounted else ""

    def _pairs(self) -> Iterator[tuple[WandbFile, Survey]]:
        return zip(self._files, self._found, strict=True)


_GOING = "the run is still going or was killed; its last rows may be missing"


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _first_step(file: WandbFile, found: Survey) -> int | None:
    """W&B's step of a fragment's first row, whoever logged it."""
    read = WandbFile(file.path)  # whose damage is not counted
    firsts = [next(read.rows_at(places), {}) for places in (found.with_key, found.without_key)]
    steps = [row.get(STEP_OF_WANDB) for row in firsts]
    return min((step for step in steps if isinstance(step, int)), default=None)


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
