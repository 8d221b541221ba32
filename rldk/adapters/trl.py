"""How a file that RLDK wrote gives back its events."""

from __future__ import annotations

from itertools import groupby, islice
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

_LINES_JUDGED: Final = 20


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
        """Whether the source is a file with events, or a folder with such files."""
        try:
            return any(_holds_events(path) for path in self._paths())
        except OSError:
            return False

    def events(self) -> Iterator[Event]:
        """Read the events in the order in which they were written.

        Raises:
            SourceError: There is no such file, or no line of it holds an event.
        """
        paths = self._paths()
        if not paths:
            reason = "no .jsonl in it holds events" if self.source.is_dir() else "there is no such file"
            raise SourceError(str(self.source), reason, "check the path")
        for path in paths:
            yield from self._read(path)

    def load(self, *, attempts: Literal["latest", "all"] = "latest") -> pd.DataFrame:
        """Read the TrainingMetrics table; see `rldk.frame.training_metrics`.

        Raises:
            SourceError: There is no such file, or no line of it holds an event.
        """
        return training_metrics(self.events(), attempts=attempts)

    def _paths(self) -> list[Path]:
        if self.source.is_dir():
            files = sorted(self.source.glob("*.jsonl"))
            return [path for path in files if path.name.endswith(journal.SUFFIX) or _holds_events(path)]
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
            raise SourceError(str(path), str(error), "check that the file can be read") from error
        self._judge(path, count, bad)

    def _judge(self, path: Path, count: int, bad: list[tuple[int, str]]) -> None:
        if not bad:
            return
        number, reason = bad[0]
        what = f"{len(bad)} lines are no events, the first is line {number}: {reason}"
        if not count:
            raise SourceError(str(path), what, "no other line is left; check that this is a journal")
        self.problems.append(f"{path}: skipped what could not be read: {what}")


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


def _holds_events(path: Path) -> bool:
    return any(not isinstance(line, str) for line in islice(long_format.read(path), _LINES_JUDGED))
