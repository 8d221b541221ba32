"""What does a `.wandb` file say: read with neither wandb nor protobuf installed.

Its records are protobuf messages, `Record` of `wandb/proto/wandb_internal.proto`, of which only the
fields that RLDK needs are decoded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rldk_wandb.blocks import Damage, Places, block_count, records, records_at
from rldk_wandb.items import BATCH, BATCH_BYTES, drop, mark, put, read_item, read_row
from rldk_wandb.summary import Summary
from rldk_wandb.wire import UNDECODABLE, VARINT, fields, signed, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rldk_wandb.blocks import Fields, Place


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


@dataclass
class Survey:
    """What one reading of a file has found.

    Attributes:
        run: What it says of its run.
        with_key: Where the rows are that have a key.
        without_key: Where all others are.
        summary: What their numbers are, once these have been read again.
    """

    summary: Summary
    run: Run = field(default_factory=Run)
    with_key: Places = field(default_factory=Places)
    without_key: Places = field(default_factory=Places)


class WandbFile:
    """One `.wandb` file, read as a stream: memory holds one record at a time.

    Attributes:
        path: The file.
        damage: What the latest reading could not read; complete when that reading is exhausted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()

    def run(self) -> Run:
        """Read what the file says of its run, and of the rows what they change in the summary.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        found = self.survey(None)
        deque(self.rows_at(found.without_key, found.summary), maxlen=0)
        found.run.summary = found.summary.entries()
        return found.run

    def survey(self, key: str | None) -> Survey:
        """Read what the file says of its run, and see where the rows are, which `rows_at` can read.

        What W&B put into the summary with a row that has the key is passed over.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        wanted = mark(key)
        messages = self._messages(_SURVEYED)
        found = Survey(Summary(self.damage))
        for head, message, place in messages:
            if head not in _ROWS:
                self._read(_RUN_READERS[head], message, found.run)
            elif wanted and wanted in message:
                if head == _HISTORY:
                    found.with_key.add(place)
            elif head == _HISTORY:
                found.without_key.add(place)
                found.summary.pass_row(message)
            else:
                found.summary.pass_change(message)
        return found

    def beginning(self) -> Run:
        """Read what the file says of its run where it begins: its id, project and start.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        run = Run()
        message = next((message for _, message, _ in self._messages({_RUN})), b"")
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
        wanted, unwanted = mark(with_key), mark(without_key)
        messages = (message for _, message, _ in self._messages({_HISTORY}))
        return self._rows(
            message for message in messages if wanted in message and not (unwanted and unwanted in message)
        )

    def rows_at(self, places: Places, summary: Summary | None = None) -> Iterator[dict[str, Any]]:
        """Read those rows that a survey has found; what cannot be read adds to the damage.

        Args:
            places: Where they are.
            summary: What the survey saw of it go by, if these are the rows without the key.

        Raises:
            SourceError: The file cannot be opened any more.
        """
        found = ((record, ()) for record in records_at(self.path, places, self.damage))
        messages = (message for _, message, _ in _of_kinds(frozenset({_HISTORY}), found))
        return self._rows(messages, summary)

    def _rows(self, messages: Iterable[bytes], summary: Summary | None = None) -> Iterator[dict[str, Any]]:
        from rldk_wandb.bulk import objects

        for batch in _batches(messages):
            for message, numbers in zip(batch, objects(batch, steps=True), strict=True):
                if summary is not None:
                    summary.replay_row(message, numbers)
                row: dict[str, Any] = numbers or {}
                if "_step" in row or self._read(read_row, message, row):
                    yield row

    def last_row(self, with_key: str) -> dict[str, Any] | None:
        """Find the last whole row that has this key; only the end of the file is read, if it is there.

        Raises:
            SourceError: The file cannot be opened, or is no `.wandb` file.
        """
        wanted = mark(with_key)
        for messages in self._ends(_HISTORY):
            for message in reversed([message for message in messages if wanted in message]):
                row: dict[str, Any] = {}
                if self._read(read_row, message, row) and with_key in row:
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
            yield [message for _, message, _ in self._messages({head}, block=first)]
            if not first:
                return
            window *= _FEW_BLOCKS

    def _messages(self, wanted: Iterable[int], *, block: int = 0) -> Iterator[tuple[int, bytes, Place]]:
        self.damage = Damage()
        return _of_kinds(frozenset(wanted), records(self.path, self.damage, block=block))

    def _read(self, reader: Callable[[bytes, Any], None], message: bytes, into: object) -> bool:
        try:
            reader(message, into)
        except UNDECODABLE:
            self.damage.unread += 1
            return False
        return True


def _batches(messages: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Messages to read at once: many, but of not too many bytes."""
    batch: list[bytes] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _of_kinds(
    wanted: frozenset[int], found: Iterable[tuple[Fields, Place]]
) -> Iterator[tuple[int, bytes, Place]]:
    for record, place in found:
        for head, value in reversed(record):  # of several, protobuf takes the last
            if head in wanted:
                yield head, value, place
                break


_FEW_BLOCKS: Final = 8

# Record; RunRecord and Timestamp; ConfigRecord; RunExitRecord; MetricRecord; ArtifactRecord, its manifest
# and the manifest's entries: the fields that are read, with the numbers that wandb_internal.proto gives them.
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = tag(2), tag(3), tag(5), tag(17), tag(18)
_ARTIFACT, _METRIC, _PREEMPTING = tag(8), tag(12), tag(23)
_ROWS: Final = {_HISTORY, _SUMMARY}

_UPDATE, _REMOVE = tag(1), tag(2)
_RUN_CONFIG, _TAG, _START_TIME, _SECONDS, _NANOS = tag(4), tag(10), tag(17), tag(1, VARINT), tag(2, VARINT)
_EXIT_CODE: Final = tag(1, VARINT)
_RUN_TEXTS: Final = {tag(1): "run_id", tag(2): "entity", tag(3): "project", tag(8): "name", tag(9): "notes"}
_METRIC_NAME, _METRIC_GLOB, _METRIC_STEP = tag(1), tag(2), tag(4)
_ARTIFACT_TEXTS: Final = {tag(4): "type", tag(5): "name"}
_MANIFEST, _ENTRY, _ENTRY_PATH, _ENTRY_PLACE = tag(12), tag(4), tag(1), tag(6)


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
            path, value = read_item(data)
            put(run.config, path, value) if head == _UPDATE else drop(run.config, path)


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


_RUN_READERS: Final[dict[int, Callable[[bytes, Run], None]]] = {
    _RUN: _read_run,
    _CONFIG: _read_config,
    _EXIT: _read_exit,
    _PREEMPTING: _read_preempting,
    _METRIC: _read_metric,
    _ARTIFACT: _read_artifact,
}
_SURVEYED: Final = frozenset({*_RUN_READERS, *_ROWS})
