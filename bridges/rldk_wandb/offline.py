"""What does a `.wandb` file say: read with neither wandb nor protobuf installed.

Its records are protobuf messages, `Record` of `wandb/proto/wandb_internal.proto`, of which only the
fields that RLDK needs are decoded.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rldk_wandb.blocks import Damage, block_count, records
from rldk_wandb.wire import FIXED64, UNDECODABLE, VARINT, MalformedError, fields, signed, tag, zigzag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


@dataclass
class Axis:
    """Over which metric others are shown: what somebody told `define_metric`.

    Attributes:
        name: The metric, or the beginning of the names of several.
        is_glob: Whether it is a beginning.
        step_metric: The metric over which they are shown.
    """

    name: str = ""
    is_glob: bool = False
    step_metric: str = ""


@dataclass
class Artifact:
    """A set of files that the run has logged.

    Attributes:
        name: Its name.
        type: What its author says that it is.
        files: Where each of its files lay, by its name in the artifact; empty for a file that was elsewhere.
    """

    name: str = ""
    type: str = ""
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """What a file says of its run: the last word on each.

    Attributes:
        run_id: W&B's id of the run; empty where the file does not say.
        entity: User or team; empty for a run that was offline.
        project: The project's name.
        name: The run's display name.
        notes: Its description.
        tags: Its tags.
        start_time: When the run was started, seconds since the epoch.
        config: The run's config.
        summary: What W&B shows as the run's numbers; nested where it was nested.
        axes: What `define_metric` was told, in this order.
        artifacts: The artifacts that were logged, the last of each name.
        exit_code: None where the run was killed or is still going.
        is_preempted: Whether it was ended to go on elsewhere.
    """

    run_id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    start_time: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: list[Axis] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    exit_code: int | None = None
    is_preempted: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether its writer has closed it, for good or to go on elsewhere."""
        return self.exit_code is not None


class WandbFile:
    """One `.wandb` file, read as a stream: memory holds one record at a time.

    Attributes:
        path: The file.
        damage: What the latest reading could not read; complete when that reading is exhausted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()

    def run(self, *, without_key: str | None = None) -> Run:
        """Read what the file says of its run; the rows are passed over.

        Args:
            without_key: Pass over what W&B put into the summary with a row that has this key.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        run, summary, unwanted = Run(), _Summary(), _mark(without_key)
        for head, message in self._messages({*_RUN_READERS, _SUMMARY}):
            if head != _SUMMARY:
                self._read(_RUN_READERS[head], message, run)
            elif not (unwanted and unwanted in message):
                self._read(_read_summary, message, summary)
        for path, item in summary.items():
            self._read(lambda item, path: _put(run.summary, list(path), _item(item)[1]), item, path)
        return run

    def beginning(self) -> Run:
        """Read what the file says of its run where it begins: its id, project and start.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        run = Run()
        message = next((message for _, message in self._messages({_RUN})), b"")
        self._read(_read_run, message, run)
        return run

    def rows(
        self, *, with_key: str | None = None, without_key: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Read the history: a dictionary for each row, in the order in which they were logged.

        A key that was logged nested comes back nested. JSON's null is None, NaN and the infinities
        are floats, and the text "NaN" is text.

        Args:
            with_key: Read only rows that have this key; others are not decoded.
            without_key: Read only rows that do not have it.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        wanted, unwanted = _mark(with_key), _mark(without_key)
        for _, message in self._messages({_HISTORY}):
            if (wanted and wanted not in message) or (unwanted and unwanted in message):
                continue
            row: dict[str, Any] = {}
            if self._read(_read_row, message, row):
                yield row

    def last_row(self, with_key: str) -> dict[str, Any] | None:
        """Find the last whole row that has this key; only the end of the file is read, if it is there.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        mark = _mark(with_key)
        for messages in self._ends(_HISTORY):
            for message in reversed([message for message in messages if mark in message]):
                row: dict[str, Any] = {}
                if self._read(_read_row, message, row) and with_key in row:
                    return row
        return None

    def has_ended(self) -> bool:
        """Whether the run's end is written at the end of the file.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        return bool(next(self._ends(_EXIT)))

    def _ends(self, head: int) -> Iterator[list[bytes]]:
        """Give the messages of one kind in the file's last blocks, then in more of them, then in all."""
        blocks = block_count(self.path)
        window = _FEW_BLOCKS
        while True:
            first = max(blocks - window, 0)
            yield [message for _, message in self._messages({head}, block=first)]
            if not first:
                return
            window *= _FEW_BLOCKS

    def _messages(self, wanted: Iterable[int], *, block: int = 0) -> Iterator[tuple[int, bytes]]:
        self.damage = Damage()
        heads = frozenset(wanted)
        for record in records(self.path, self.damage, block=block):
            yield from ((head, value) for head, value in record if head in heads)

    def _read(self, reader: Callable[[bytes, Any], None], message: bytes, into: object) -> bool:
        try:
            reader(message, into)
        except UNDECODABLE:
            self.damage.unread += 1
            return False
        return True


_FEW_BLOCKS: Final = 8


def _mark(key: str | None) -> bytes:
    """How a row's key of up to 127 letters stands in its message; the values' JSON cannot hold it."""
    name = b"" if key is None else key.encode()
    return bytes([_NESTED_KEY, len(name)]) + name if name else b""


@lru_cache(maxsize=4096)
def _name(data: bytes) -> str:
    return data.decode()


# Record; HistoryRecord and HistoryStep; HistoryItem, ConfigItem and SummaryItem; ConfigRecord and
# SummaryRecord; RunRecord and Timestamp; RunExitRecord; MetricRecord; ArtifactRecord, its manifest and
# the manifest's entries: the fields that are read, with the numbers that wandb_internal.proto gives them.
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = tag(2), tag(3), tag(5), tag(17), tag(18)
_ARTIFACT, _METRIC, _PREEMPTING = tag(8), tag(12), tag(23)

_ITEM, _STEP, _STEP_NUM = tag(1), tag(2), tag(1, VARINT)
_KEY, _NESTED_KEY, _VALUE_JSON = tag(1), tag(2), tag(16)
_UPDATE, _REMOVE = tag(1), tag(2)
_RUN_CONFIG, _TAG, _START_TIME, _SECONDS, _NANOS = tag(4), tag(10), tag(17), tag(1, VARINT), tag(2, VARINT)
_EXIT_CODE: Final = tag(1, VARINT)
_RUN_TEXTS: Final = {tag(1): "run_id", tag(2): "entity", tag(3): "project", tag(8): "name", tag(9): "notes"}
_METRIC_NAME, _METRIC_GLOB, _METRIC_STEP = tag(1), tag(2), tag(4)
_ARTIFACT_TEXTS: Final = {tag(4): "type", tag(5): "name"}
_MANIFEST, _ENTRY, _ENTRY_PATH, _ENTRY_PLACE = tag(12), tag(4), tag(1), tag(6)

_SHORT_NAME: Final = bytes([_NESTED_KEY])
_SHORT_JSON: Final = bytes([_VALUE_JSON & 0x7F | 0x80, _VALUE_JSON >> 7])
_LONG: Final = 0x80  # lengths from here on take more than a byte
_DEEPEST: Final = 64


def _json(data: bytes) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return _fast_json(data)
    except msgspec.DecodeError:  # W&B writes NaN and Infinity bare, which only Python's decoder reads
        return json.loads(data)


_fast_json: Final = msgspec.json.Decoder().decode

# Typed values, written next to `value_json` from wandb 0.31 on and in its stead one day.
_TYPED: Final[dict[int, Callable[[Any], Any]]] = {
    tag(3, VARINT): lambda _: None,
    tag(4, VARINT): bool,
    tag(5, VARINT): zigzag,
    tag(6, FIXED64): lambda data: struct.unpack("<d", data)[0],
    tag(7): bytes.decode,
    tag(8): json.loads,
}


def _read_row(message: bytes, row: dict[str, Any]) -> None:
    for head, data in fields(message):
        if head == _ITEM:
            flat = _flat_item(data)
            if flat:
                row[flat[0]] = flat[1]
            else:
                _put(row, *_item(data))
        elif head == _STEP:
            row.setdefault("_step", next((signed(v) for t, v in fields(data) if t == _STEP_NUM), 0))


def _flat_item(message: bytes) -> tuple[str, Any] | None:
    """Read the shape of nearly every item, a short name and a short JSON value, at twice the speed."""
    size = message[1] if message[:1] == _SHORT_NAME else _LONG
    if size < _LONG and message[2 + size : 4 + size] == _SHORT_JSON:
        data = message[5 + size :]
        if len(data) == message[4 + size] < _LONG:
            return _name(message[2 : 2 + size]), _json(data)
    return None


def _item(message: bytes) -> tuple[list[str], Any]:
    path, text, typed = [], b"null", None
    for head, data in fields(message):
        if head in {_KEY, _NESTED_KEY}:
            path.append(_name(data))
        elif head == _VALUE_JSON:
            text = data
        elif head in _TYPED:
            typed = head, data
    return path or [""], _json(text) if typed is None else _TYPED[typed[0]](typed[1])


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401  # any JSON value
    if len(path) > _DEEPEST:
        raise MalformedError
    for name in path[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[path[-1]] = value


def _read_run(message: bytes, run: Run) -> None:
    run.tags = [data.decode() for head, data in fields(message) if head == _TAG]
    for head, data in fields(message):
        if head in _RUN_TEXTS:
            setattr(run, _RUN_TEXTS[head], data.decode())
        elif head == _START_TIME:
            at = dict(fields(data))
            run.start_time = at.get(_SECONDS, 0) + at.get(_NANOS, 0) / 1e9
        elif head == _RUN_CONFIG:
            _read_config(data, run)


def _read_config(message: bytes, run: Run) -> None:
    for head, data in fields(message):
        if head in {_UPDATE, _REMOVE}:
            path, value = _item(data)
            _put(run.config, path, value) if head == _UPDATE else _drop(run.config, path)


def _drop(tree: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        inner = tree.get(name)
        tree = inner if isinstance(inner, dict) else {}
    tree.pop(path[-1], None)


def _read_exit(message: bytes, run: Run) -> None:
    run.exit_code = next((signed(value) for head, value in fields(message) if head == _EXIT_CODE), 0)


def _read_preempting(_: bytes, run: Run) -> None:
    run.is_preempted = True


def _read_metric(message: bytes, run: Run) -> None:
    axis = Axis()
    for head, data in fields(message):
        if head in {_METRIC_NAME, _METRIC_GLOB}:
            axis.name, axis.is_glob = data.decode(), head == _METRIC_GLOB
        elif head == _METRIC_STEP:
            axis.step_metric = data.decode()
    run.axes.append(axis)


def _read_artifact(message: bytes, run: Run) -> None:
    artifact = Artifact()
    for head, data in fields(message):
        if head in _ARTIFACT_TEXTS:
            setattr(artifact, _ARTIFACT_TEXTS[head], data.decode())
        elif head == _MANIFEST:
            artifact.files |= dict(_entry(entry) for head, entry in fields(data) if head == _ENTRY)
    run.artifacts[artifact.name] = artifact


def _entry(message: bytes) -> tuple[str, str]:
    told = dict(fields(message))
    return told.get(_ENTRY_PATH, b"").decode(), told.get(_ENTRY_PLACE, b"").decode()


_Summary = dict[tuple[str, ...], bytes]
"""The item that last set each entry, undecoded: W&B writes them all again with every row."""


def _read_summary(message: bytes, summary: _Summary) -> None:
    for head, data in fields(message):
        if head == _UPDATE:
            summary[_path(data)] = data
        elif head == _REMOVE:
            gone = _path(data)
            for path in [path for path in summary if path[: len(gone)] == gone]:
                del summary[path]


def _path(item: bytes) -> tuple[str, ...]:
    size = item[1] if item[:1] == _SHORT_NAME else _LONG
    if size < _LONG and item[2 + size : 4 + size] == _SHORT_JSON:
        return (_name(item[2 : 2 + size]),)
    return tuple(_name(data) for head, data in fields(item) if head in {_KEY, _NESTED_KEY})


_RUN_READERS: Final[dict[int, Callable[[bytes, Run], None]]] = {
    _RUN: _read_run,
    _CONFIG: _read_config,
    _EXIT: _read_exit,
    _PREEMPTING: _read_preempting,
    _METRIC: _read_metric,
    _ARTIFACT: _read_artifact,
}
