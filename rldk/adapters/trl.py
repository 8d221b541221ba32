"""How a file that RLDK wrote gives back its events."""

from __future__ import annotations

import re
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast

from rldk import journal
from rldk.adapters import long_format
from rldk.adapters.long_format import Grouper, Line
from rldk.errors import SourceError
from rldk.frame import training_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from rldk.event import Event

_LINES_JUDGED: Final = 1000
_OF_ANOTHER_RANK: Final = re.compile(r".*\.rank\d+\.jsonl")


class TRLAdapter:
    """Reads RLDK journals and files of the long format: one file, or a folder with some `.jsonl`.

    Which format it is, each line says for itself. Lines that hold neither an event nor a metric are
    skipped and counted.

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
        """
        del repeats
        is_empty = True
        for event in chain.from_iterable(map(self._read, self._found())):
            is_empty = False
            yield event
        if is_empty:
            raise SourceError(str(self.source), "; ".join(self.problems), "check that these are journals")

    def load(self, *, attempts: Literal["latest", "all"] = "latest") -> pd.DataFrame:
        """Read the TrainingMetrics table; see `rldk.frame.training_metrics`.

        Raises:
            SourceError: There is no such file, or no line of it holds an event.
        """
        return training_metrics(self.events(), attempts=attempts)

    def _found(self) -> list[Path]:
        paths = self._paths()
        if not paths:
            reason = "no .jsonl in it holds events" if self.source.is_dir() else "there is no such file"
            raise SourceError(str(self.source), reason, "check the path")
        return paths

    def _paths(self) -> list[Path]:
        if self.source.is_dir():
            files = (path for path in sorted(self.source.glob("*.jsonl")) if path.is_file())
            return [path for path in files if _is_ours(path) and not _OF_ANOTHER_RANK.fullmatch(path.name)]
        return [self.source] if self.source.is_file() else []

    def _read(self, path: Path) -> Iterator[Event]:
        bad: list[tuple[int, str]] = []
        count = 0
        grouper = Grouper(run_id=path.name.removesuffix(".jsonl").removesuffix("_events"))
        try:
            for event in _grouped(_good(path, bad), grouper):
                count += 1
                yield event
        except OSError as error:
            self._complain(path, str(error), "check that the file can be read")
        if not count:
            reason = f"line {bad[0][0]}: {bad[0][1]}" if bad else "it is empty"
            self._complain(path, f"no line of it holds an event ({reason})", "check that this is a journal")
        elif bad:
            number, reason = bad[0]
            what = f"{len(bad)} lines are no events, the first is line {number}: {reason}"
            self.problems.append(f"{path}: skipped what could not be read: {what}")

    def _complain(self, path: Path, reason: str, remedy: str) -> None:
        """Raise for the file that was asked for; one of many in a folder stops no other."""
        if not self.source.is_dir():
            raise SourceError(str(path), reason, remedy)
        self.problems.append(f"{path}: {reason}; {remedy}")


def _good(path: Path, bad: list[tuple[int, str]]) -> Iterator[Event | Line]:
    """Read the lines that hold something; note number and reason of the others in `bad`."""
    for number, line in enumerate(long_format.read(path), start=1):
        if isinstance(line, str):
            bad.append((number, line))
        else:
            yield line


def _grouped(lines: Iterable[Event | Line], grouper: Grouper) -> Iterator[Event]:
    """Put the lines of one log together; events pass as they are."""
    for is_long, some in groupby(lines, key=lambda line: isinstance(line, Line)):
        if is_long:
            yield from grouper.events(cast("Iterator[Line]", some))
        else:
            yield from cast("Iterator[Event]", some)


def _is_ours(path: Path) -> bool:
    """Whether a file is named like a journal, or holds an event or a metric among its first lines."""
    if path.name.endswith(journal.SUFFIX):
        return True
    try:
        return any(not isinstance(line, str) for line in islice(long_format.read(path), _LINES_JUDGED))
    except OSError:
        return False
