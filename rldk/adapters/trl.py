"""How a file that RLDK wrote gives back its events."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rldk import journal
from rldk.adapters import limits, long_format
from rldk.adapters.flat_jsonl import SUFFIXES, FlatJsonlAdapter, numbers_of, plain_name
from rldk.adapters.long_format import Grouper, Line
from rldk.errors import SourceError
from rldk.event import Event
from rldk.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from rldk.frame import Attempts

_LINES_JUDGED: Final = 1000
_OF_ANOTHER_RANK: Final = re.compile(r".*\.rank\d+")
_PACKED: Final = ("", ".gz", ".zst")


class TRLAdapter:
    """Reads RLDK journals and files of the long format: one file, or a folder with some `.jsonl`.

    A file may be compressed by gzip or zstd. Which format it is, each line says for itself. Lines that
    hold neither an event nor a metric are skipped and counted.

    Args:
        source: Path of the file or the folder.

    Attributes:
        problems: What was skipped, one sentence for each file.
    """

    name: ClassVar[str] = "trl"

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether the source is a file with events, or named like one, or a folder with such files."""
        try:
            return bool(self._paths()) and (self.source.is_dir() or _is_ours(self.source))
        except (OSError, ValueError):  # a name that is too long, or not a name at all
            return False

    def runs(self) -> list[str]:
        """Name each file.

        Raises:
            SourceError: There is no such file.
        """
        return [str(path) for path in self._found()]

    def files(self, into: Path) -> list[Path]:
        """Give the files themselves."""
        del into
        return self._paths()

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read the events in the order in which they were written, each as often as it is there.

        Raises:
            SourceError: There is no such file, or no line of it holds an event.
            MissingDependencyError: A file is compressed by zstd, and zstandard is not installed.
        """
        del repeats
        self.problems.clear()
        is_empty = True
        for path in self._found():
            for event in self._read(path):
                is_empty = False
                yield event
        if is_empty:
            raise SourceError(str(self.source), "; ".join(self.problems), "check that these are journals")

    def load(
        self, *, attempts: Attempts = "latest", field_map: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """Read the TrainingMetrics table; see `rldk.frame.table`.

        A log that is not RLDK's is read by `FlatJsonlAdapter`: its names become canonical by the catalog,
        and `df.attrs["problems"]`, which is logged too, lists those that are not known, what they may
        mean, and the `--field-map` that tells.

        Args:
            attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt or `all`.
            field_map: Raw name to canonical name, for what the catalog does not know.

        Raises:
            SourceError: There is no such file, or no line of it holds an event or a number at a step.
        """
        flexible = FlatJsonlAdapter(self.source)
        is_flexible = not self.can_handle() and flexible.can_handle()
        reading = Reading(field_map)
        if not reading.read(flexible if is_flexible else self):
            raise reading.failures[0]
        return reading.table(attempts=attempts)

    def _extract_trl_metric(self, record: Mapping[str, Any], metric: str) -> float | None:
        """Find a metric in one record of a log: an event, a line of the long format, or a trainer's own log.

        Args:
            record: The record, decoded.
            metric: Canonical name of the metric, or the key under which the trainer logged it.

        Returns:
            Its value; None where it was not measured, or is no number.
        """
        return numbers_of(record).get(metric)

    def _found(self) -> list[Path]:
        paths = self._paths()
        if not paths:
            reason = "no .jsonl in it holds events" if self.source.is_dir() else "there is no such file"
            raise SourceError(str(self.source), reason, "check the path")
        return paths

    def _paths(self) -> list[Path]:
        if self.source.is_dir():
            endings = (f"*{suffix}{packed}" for suffix in SUFFIXES for packed in _PACKED)
            files = sorted(path for ending in endings for path in self.source.glob(ending) if path.is_file())
            return [path for path in files if not _OF_ANOTHER_RANK.fullmatch(_stem(path)) and _is_ours(path)]
        return [self.source] if self.source.is_file() else []

    def _read(self, path: Path) -> Iterator[Event]:
        skipped = _Skipped(path)
        count = 0
        try:
            for event in self._events(path, skipped):
                count += 1
                yield event
        except (OSError, SourceError) as error:
            self._complain(error if isinstance(error, SourceError) else _unreadable(path, error))
        if not count:
            reason = skipped.first or "it is empty"
            self._complain(_unreadable(path, f"no line of it holds an event ({reason})"))
        self.problems += skipped.sentences()

    def _events(self, path: Path, skipped: _Skipped) -> Iterator[Event]:
        grouper = Grouper(run_id=_stem(path).removesuffix("_events"))
        for number, line in limits.lines(path, self.problems, journal.MAX_LINE_BYTES):
            read = long_format.read(line)
            if type(read) is Event:
                if (before := grouper.rest()) is not None:
                    yield before
                yield read
            elif isinstance(read, Line):
                if (before := grouper.take(read)) is not None:
                    yield before
            elif line.strip():
                skipped.note(number, line, str(read))
        if (last := grouper.rest()) is not None:
            yield last

    def _complain(self, error: SourceError) -> None:
        """Raise for the file that was asked for; one of many in a folder stops no other."""
        if not self.source.is_dir():
            raise error
        self.problems.append(str(error))


class _Skipped:
    """Counts the lines that are neither events nor metrics, and remembers the first."""

    def __init__(self, path: Path) -> None:
        self.first = ""
        self._path = path
        self._count = 0
        self._torn = 0

    def note(self, number: int, line: bytes, reason: str) -> None:
        """Note a line; only the file's last one can lack its newline."""
        self.first = self.first or f"line {number}: {reason}"
        if line.endswith(b"\n"):
            self._count += 1
        else:
            self._torn = number

    def sentences(self) -> list[str]:
        """Say it; empty where nothing was skipped."""
        told: list[str] = []
        if self._count:
            what = f"{self._count} lines are no events, the first is {self.first}"
            told.append(f"{self._path}: skipped what could not be read: {what}")
        if self._torn:
            what = f"it ends inside line {self._torn}"
            told.append(f"{self._path}: {what}: the run was killed, or is still writing")
        return told


def _unreadable(path: Path, reason: object) -> SourceError:
    return SourceError(str(path), str(reason), "check that this is a journal that can be read")


def _is_ours(path: Path) -> bool:
    """Whether a file is named like a journal, or holds an event or a metric among its first lines."""
    if plain_name(path).endswith(journal.SUFFIX):
        return True
    lines = limits.head(path).split(b"\n")
    return any(not isinstance(long_format.read(line), str) for line in islice(lines, _LINES_JUDGED))


def _stem(path: Path) -> str:
    """A file's name without what tells its format."""
    name = path.name
    for suffix in (*_PACKED, *SUFFIXES):
        name = name.removesuffix(suffix)
    return name
