"""How does a JSONL file of any other tool give its events: one JSON object a line, numbers under any keys."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from rldk import event as event_json
from rldk.adapters import limits, long_format
from rldk.adapters.raw import RESERVED, RUNS, Axis, RawRun, Skips, number, time_of
from rldk.errors import EventFormatError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rldk.event import Event

SUFFIXES: Final = (".jsonl", ".ndjson")

_LINES_JUDGED: Final = 20
_DEEPEST: Final = 8
_MOST_KEYS: Final = 200_000
_BOM: Final = b"\xef\xbb\xbf"
_NO_OBJECTS: Final = "lines are no JSON objects and"

_decoder = msgspec.json.Decoder()


class FlatJsonlAdapter:
    """Reads a JSONL file, plain or compressed by gzip or zstd, whose lines are the rows of a log.

    What is nested gets the names on the way to it, joined by `/`. The step stands under one of
    `raw.STEPS` or, for want of these, `raw.ROW_COUNT`; the time under one of `raw.TIMES`; and where
    several runs share the file, their ids under one of `raw.RUNS`. All other numbers are metrics.

    Args:
        source: Path of the file.

    Attributes:
        problems: What was skipped, a sentence each.
    """

    name: ClassVar[str] = "jsonl"

    def __init__(self, source: str | Path) -> None:
        self._path = Path(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether one of the first lines is an object with a step and a number, and none is RLDK's."""
        head = limits.head(self._path)
        if not head:
            return limits.is_zstd(self._path) and plain_name(self._path).endswith(SUFFIXES)
        lines = [line for line in head.removeprefix(_BOM).split(b"\n") if line.strip()]
        judged = list(islice(lines, _LINES_JUDGED))
        is_json = bool(judged) and judged[0].lstrip()[:1] == b"{"
        return is_json and any(map(_is_row, judged)) and not any(map(_is_ours, judged))

    def runs(self) -> list[str]:
        """Name the file.

        Raises:
            SourceError: There is no such file.
        """
        limits.opened(self._path).close()
        return [str(self._path)]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read one event for each row, in the order of the file.

        Args:
            repeats: Makes no difference: what the source holds twice is always given twice.

        Raises:
            SourceError: The file cannot be read, holds no row, or more than 100,000 different names.
            MissingDependencyError: It is compressed by zstd, and zstandard is not installed.
        """
        del repeats  # all that is in it is given anyway
        self.problems.clear()
        skips = Skips(str(self._path))
        rows = _Rows(self._path, skips)
        is_empty = True
        for place, line in limits.lines(self._path, self.problems):
            for event in rows.events(place, line):
                is_empty = False
                yield event
        self.problems += skips.sentences()
        if is_empty:
            reason = "; ".join(["no line of it has a step and a number", *self.problems])
            raise SourceError(str(self._path), reason, "give a file of JSON objects with a key 'step'")

    def files(self, into: Path) -> list[Path]:
        """Give the file itself."""
        del into
        return [self._path]


class _Rows:
    """Turns the lines of one file into events."""

    def __init__(self, path: Path, skips: Skips) -> None:
        self._default = plain_name(path).removesuffix(".jsonl").removesuffix(".ndjson")
        self._skips = skips
        self._names = limits.Names(str(path))
        self._ids = limits.Names(str(path), "runs")
        self._runs: dict[str, tuple[RawRun, Axis]] = {}

    def events(self, place: int, line: bytes) -> list[Event]:
        row, why = _row(line)
        if row is None:
            self._skips.place(_NO_OBJECTS, f"line {place}", why)
            return []
        run, axis = self._run(row)
        step, at = axis.step_of(row), time_of(row)
        numbers = self._numbers(row)
        if step is None or not numbers:
            what = "lines have no step and" if step is None else "lines have no numbers and"
            self._skips.place(what, f"line {place}") if row else None
            return []
        return run.log(step, numbers, at)

    def _run(self, row: dict[str, Any]) -> tuple[RawRun, Axis]:
        named = next((row.pop(key) for key in RUNS if isinstance(row.get(key), str)), "") or self._default
        if named not in self._runs:
            self._ids.add([named])
            self._runs[named] = (RawRun(named, self._names), Axis())
        return self._runs[named]

    def _numbers(self, row: dict[str, Any]) -> dict[str, int | float]:
        numbers: dict[str, int | float] = {}
        for key, value in row.items():
            read = value if type(value) is float else number(value)
            if read is not None:
                if key not in RESERVED:
                    numbers[key] = read
            elif value is not None:
                self._skips.value(key)
        return numbers


def json_rows(lines: Iterable[tuple[int, bytes]], skips: Skips) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines that are JSON objects, flat, with their numbers.

    Args:
        lines: The lines with their numbers.
        skips: Is told of the others.
    """
    for place, line in lines:
        row, why = _row(line)
        if row is None:
            skips.place(_NO_OBJECTS, f"line {place}", why)
        elif row:
            yield place, row


def numbers_of(record: Mapping[str, Any]) -> dict[str, int | float]:
    """Read the numbers of one record, decoded from a log in any of the formats.

    Returns:
        The metrics of an event, or of a line of the long format, under their canonical names; else every
        number of the record under its own name, and under its canonical one where all trainers agree on it.
    """
    metrics = record.get("metrics")
    if isinstance(metrics, dict):
        return _numbers(metrics)
    if {"step", "name", "value"} <= record.keys():
        return _number_of_line(msgspec.json.encode(event_json.spell_non_finite(dict(record))))
    numbers = _numbers(_flat(dict(record)))
    return {name: value for raw, value in numbers.items() if (name := long_format.known(raw))} | numbers


def _number_of_line(text: bytes) -> dict[str, int | float]:
    try:
        line = long_format.decode(text)
    except EventFormatError:
        return {}
    return {} if line.value is None else {long_format.metric_of(line): line.value}


def _numbers(row: Mapping[str, Any]) -> dict[str, int | float]:
    return {key: read for key, value in row.items() if (read := number(value)) is not None}


def _row(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """Read a line as a flat row, or tell why it is none; an empty line is an empty row."""
    text = line.removeprefix(_BOM).strip()
    if not text:
        return {}, ""
    if text.count(b":") > _MOST_KEYS:
        return None, f"more than {_MOST_KEYS:,} keys"
    try:
        row = _decoded(text)
    except (ValueError, RecursionError) as error:
        return None, str(error)
    return (_flat(row), "") if isinstance(row, dict) else (None, f"it is a {type(row).__name__}")


def _decoded(text: bytes) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Python's own json writes NaN and Infinity bare, which no JSON reader but itself accepts.
        return json.loads(text.decode("utf-8", "replace"))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    if not any(type(value) is dict for value in row.values()):
        return row
    return dict(_items(row, "", 0))


def _items(row: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if type(value) is dict and depth < _DEEPEST:
            yield from _items(value, f"{prefix}{key}/", depth + 1)
        else:
            yield f"{prefix}{key}", value


def _is_row(line: bytes) -> bool:
    row, _ = _row(line)
    if row is None or Axis().step_of(row) is None:
        return False
    return any(number(value) is not None for key, value in row.items() if key not in RESERVED)


def _is_ours(line: bytes) -> bool:
    for decode in (event_json.decode, long_format.decode):
        try:
            decode(line)
        except EventFormatError:
            continue
        return True
    return False


def plain_name(path: Path) -> str:
    """A file's name without what tells that it is compressed."""
    return path.resolve().name.removesuffix(".gz").removesuffix(".zst")


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = FlatJsonlAdapter
