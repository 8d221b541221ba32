"""How do TensorBoard's event files give their events, without TensorBoard."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rldk.adapters import limits
from rldk.adapters.raw import RawRun, milliseconds
from rldk.adapters.tfevents import Damage, Scalars, is_event_file, scalars
from rldk.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rldk.event import Event

_MARK: Final = "tfevents"
_MOST_ENTRIES: Final = 100_000
_WRITTEN_AT: Final = re.compile(r".*tfevents\.(\d{1,18})\b.*", re.DOTALL)
_GENERIC: Final = re.compile(
    r"train|eval|test|val|validation|logs?|runs|tb|tensorboard|version_\d+", re.IGNORECASE
)


class TensorBoardAdapter:
    """Reads TensorBoard's scalars: an event file, the folder of a run, or a folder of such folders.

    The event files of one folder are one run, in the order in which they were begun: each start of the
    process makes another. Scalars that follow each other at one step are one event, at the time of the
    first. What is no scalar is skipped and counted.

    Args:
        source: Path of the file or the folder.

    Attributes:
        problems: What was skipped, a sentence each.
    """

    name: ClassVar[str] = "tensorboard"

    def __init__(self, source: str | Path) -> None:
        self._source = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether the source is an event file, or a folder that holds one at any depth."""
        try:
            if self._source.is_dir():
                return next(_event_files(self._source), None) is not None
        except (OSError, ValueError):
            return False
        return is_event_file(self._source)

    def runs(self) -> list[str]:
        """Name the folder of each run, or the file.

        Raises:
            SourceError: It holds no event file.
        """
        groups = self._groups()
        return [str(self._source)] if self._source.is_file() else [str(folder) for folder in groups]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read the events run by run, each in the order in which they were written.

        Args:
            repeats: Makes no difference: what the source holds twice is always given twice.

        Raises:
            SourceError: It holds no event file, or no scalar.
        """
        del repeats  # all that is in it is given anyway
        self.problems.clear()
        groups = self._groups()
        names = limits.Names(str(self._source))
        is_empty = True
        for (folder, files), run_id in zip(groups.items(), _ids(self._source, groups), strict=True):
            del folder
            run = RawRun(run_id, names)
            for event in _logged(run, self._scalars(files)):
                is_empty = False
                yield event
        if is_empty:
            reason = "; ".join(["it holds no scalars", *self.problems])
            raise SourceError(str(self._source), reason, "give the folder that add_scalar has written to")

    def files(self, into: Path) -> list[Path]:
        """Give the event files.

        Raises:
            SourceError: It holds none.
        """
        del into
        return [file for files in self._groups().values() for file in files]

    def _scalars(self, files: Iterable[Path]) -> Iterator[Scalars]:
        for path in files:
            damage = Damage()
            try:
                yield from scalars(path, damage)
            except (SourceError, *limits.DAMAGE) as error:
                self.problems.append(f"{path}: the rest cannot be read: {error}")
            self.problems += [f"{path}: {sentence}" for sentence in damage.sentences()]

    def _groups(self) -> dict[Path, list[Path]]:
        """The event files of each folder that has some, in the order in which they were begun."""
        try:
            files = list(_event_files(self._source)) if self._source.is_dir() else [self._source]
        except (OSError, ValueError) as error:
            raise SourceError(str(self._source), str(error), "check the path and its permissions") from error
        found = [file for file in files if is_event_file(file)]
        if not found:
            limits.opened(self._source).close() if not self._source.is_dir() else None
            reason = "it is no event file" if self._source.is_file() else "it holds no event file"
            raise SourceError(str(self._source), reason, "give an events.out.tfevents file or its folder")
        groups: dict[Path, list[Path]] = {}
        for file in sorted(found, key=_begun):
            groups.setdefault(file.parent, []).append(file)
        return groups


def _event_files(folder: Path) -> Iterator[Path]:
    """Search a folder, as far as anybody would wait, without following links."""
    entries = ((top, name) for top, _, names in os.walk(folder) for name in ("", *sorted(names)))
    for top, name in islice(entries, _MOST_ENTRIES):
        path = Path(top, name)
        if _MARK in name and not path.is_symlink() and is_event_file(path):
            yield path


def _begun(file: Path) -> tuple[int, str]:
    found = _WRITTEN_AT.fullmatch(file.name)
    return int(found[1]) if found else 0, str(file)


def _ids(source: Path, groups: Iterable[Path]) -> list[str]:
    """Name each run as its folder, and as its path in the source where two folders are called the same."""
    named = [_id(folder.resolve()) for folder in groups]
    count = Counter(named)
    return [
        name if count[name] == 1 else folder.relative_to(source).as_posix()
        for name, folder in zip(named, groups, strict=True)
    ]


def _id(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}" if _GENERIC.fullmatch(folder.name) else folder.name or "run"


def _logged(run: RawRun, records: Iterable[Scalars]) -> Iterator[Event]:
    """Put scalars that follow each other at one step together."""
    time, step = 0.0, 0
    metrics: dict[str, int | float] = {}
    for record in records:
        for tag, value in record.values:
            if metrics and (record.step != step or tag in metrics):
                yield from run.log(step, metrics, milliseconds(time))
                metrics = {}
            if not metrics:
                time, step = record.time, record.step
            metrics[tag] = value
    if metrics:
        yield from run.log(step, metrics, milliseconds(time))


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = TensorBoardAdapter
