"""What do all fragments of a run on disk say together?"""

from __future__ import annotations

import heapq
from itertools import chain
from typing import TYPE_CHECKING, Any

from rldk_wandb.names import SEQ, TIME
from rldk_wandb.offline import Run, WandbFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rldk_wandb.blocks import Damage


class DiskRun:
    """One run in one file or several, of which the earlier come first."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._runs: list[Run] = []
        self._read: list[tuple[WandbFile, WandbFile, WandbFile]] = []

    def run(self) -> Run:
        """What the files say of the run: the last word on each.

        Raises:
            SourceError: A file cannot be opened.
        """
        self._read = [(WandbFile(path), WandbFile(path), WandbFile(path)) for path in self._files]
        self._runs = [file.run(without_key=SEQ) for file, _, _ in self._read]
        return _united(self._runs)

    def ours(self) -> Iterator[dict[str, Any]]:
        """The rows of RLDK, in the order of their time."""
        return heapq.merge(*(file.rows(with_key=SEQ) for _, file, _ in self._read), key=_time)

    def theirs(self) -> Iterator[dict[str, Any]]:
        """The rows of all others, in the order in which they were logged."""
        return chain.from_iterable(file.rows(without_key=SEQ) for _, _, file in self._read)

    def problems(self) -> list[str]:
        """What could not be read, once all rows have been; a sentence each."""
        told: list[str] = []
        for run, read in zip(self._runs, self._read, strict=True):
            where = read[0].path.name if len(self._files) == 1 else _short(read[0].path)
            sentences = [] if run.has_ended else [_GOING]
            told += [f"{where}: {sentence}" for sentence in sentences + _damage(read).sentences()]
        return told


_GOING = "the run is still going or was killed; its last rows may be missing"


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _damage(read: tuple[WandbFile, WandbFile, WandbFile]) -> Damage:
    """Sum up what three readings of one file, each of other messages, could not read."""
    damage = read[0].damage
    damage.unread = sum(file.damage.unread for file in read)
    return damage


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
        summary={key: value for run in runs for key, value in run.summary.items()},
        axes=[axis for run in runs for axis in run.axes],
        artifacts={name: artifact for run in runs for name, artifact in run.artifacts.items()},
        exit_code=last.exit_code,
        is_preempted=last.is_preempted,
    )


def _last_word(said: list[str]) -> str:
    return next(filter(None, reversed(said)), "")
