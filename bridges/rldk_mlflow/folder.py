"""How are MLflow runs read from folders, without MLflow: its file store, and mlflow-export-import."""

from __future__ import annotations

import json
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import msgspec

from rldk.bridge import RunFacts
from rldk.errors import SourceError
from rldk_mlflow import history, text_files, told
from rldk_mlflow.adapter import began_at, logged_by_others, telling, unpacked
from rldk_mlflow.names import unescape
from rldk_mlflow.points import NONFINITE_COUNT
from rldk_mlflow.store import ENDED, Data, Info, Run, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rldk.event import Event
    from rldk_mlflow.text_files import Point

_EXPORT: Final = "run.json"
_META: Final = "meta.yaml"
_TRASH: Final = ".trash"
_STATUS: Final = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
"""https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/protos/service.proto, RunStatus"""

_DEEPEST: Final = 3  # mlflow-export-import's `export-all`: experiments/<id>/<run id>
_MOST_FOLDERS: Final = 100_000
_MOST_JUDGED: Final = 1000
_MOST_FILES: Final = 100_000
_LONGEST_EXPORT: Final = 512 * 2**20


class _Folder(Protocol):
    """The folder of one run."""

    path: Path
    problems: list[str]

    def info(self) -> Info: ...
    def run(self) -> Run: ...
    def project(self) -> str: ...
    def histories(self) -> Iterator[tuple[str, list[Point]]]: ...


class MLflowFolderAdapter:
    """A reader of MLflow runs that are folders: `mlruns`, one experiment or run of it, or an export.

    MLflow need not be installed. Nothing outside of a run's folder is read: links that lead there are
    refused. A metric's repeated lines are one point: a file store appends what is delivered again.
    """

    name: ClassVar[str] = "mlflow_folder"

    def __init__(self, source: str) -> None:
        self._source = str(source)
        self.problems: list[str] = []

    def can_handle(self) -> bool:
        """Whether the source is a folder with a run that MLflow or mlflow-export-import wrote."""
        try:
            top = _top(self._source)
            return top.is_dir() and next(_Search(_MOST_JUDGED).runs(top), None) is not None
        except (OSError, ValueError):
            return False

    def runs(self) -> list[str]:
        """Name the folder of each run that is not deleted, in the order in which they began.

        Raises:
            SourceError: The folder cannot be read, or holds no run.
        """
        return [str(folder.path) for folder in self._folders()]

    def events(self, *, repeats: bool = False) -> Iterator[Event]:
        """Read everything in the order of its time, run by run: RLDK's events, and what others logged.

        A run's histories are held in memory until its last event is read.

        Args:
            repeats: Makes no difference: a value that was written twice at one moment is given once.

        Raises:
            SourceError: The folder cannot be read, or none of its runs holds a metric.
        """
        del repeats
        self.problems.clear()
        is_empty = True
        for folder in self._folders():
            try:
                for event in self._events_of(folder):
                    is_empty = False
                    yield event
            except SourceError as error:
                self.problems.append(str(error))
        if is_empty:
            raise self._error("; ".join(self.problems), "give a run in which something was logged")

    def files(self, into: Path) -> list[Path]:
        """Give the run's artifacts, where they are.

        Raises:
            SourceError: They cannot be read, lead out of the run's folder, or are those of several runs.
        """
        del into
        folders = self._folders()
        if len(folders) > 1:
            raise self._error(f"it holds {len(folders)} runs", f"give one of them, such as {folders[0].path}")
        top = folders[0].path / "artifacts"
        if not top.is_dir():
            return []
        for path in (top, *_walked(top)):
            if not _is_inside(path, folders[0].path):
                reason = f"{path.relative_to(folders[0].path)} is a link that leads out of the folder"
                raise self._error(reason, "remove the link")
        return sorted(unpacked(top))

    def _folders(self) -> list[_Folder]:
        search = _Search(_MOST_FOLDERS)
        try:
            top = _top(self._source)
            found = list(search.runs(top))
            active = [each for each in found if each.info().lifecycle_stage != "deleted" or each.path == top]
        except (OSError, ValueError) as error:
            raise self._error(str(error), "check the path and its permissions") from error
        if not active:
            reason = "all its runs are deleted" if found else "it holds no MLflow run"
            raise self._error(reason, "give an mlruns folder, or one of its experiments or runs")
        self.problems += search.problems
        return sorted(active, key=_start)

    def _events_of(self, folder: _Folder) -> Iterator[Event]:
        try:
            run, series = folder.run(), self._series(folder)
        except (OSError, ValueError, RecursionError) as error:
            raise self._error(f"{folder.path}: {error}", "copy or export the run again") from error
        self.problems += [f"{folder.path}: {doubt}" for doubt in history.doubts(series)]
        facts = self._facts(folder, run, series)
        events = history.events(series, facts, self._note(folder))
        first = telling(next(events), run, folder.project(), is_raw=logged_by_others(run, series))
        last = first
        yield first
        for last in events:  # the last one is meant
            yield last
        if run.info.status in ENDED:
            yield history.end_event(facts, run.info.status, run.info.end_time or 0, last)

    def _series(self, folder: _Folder) -> list[history.Series]:
        told_of = ((key, points) for key, points in folder.histories() if unescape(key) != NONFINITE_COUNT)
        series = history.shared(history.Series.of(key, points) for key, points in told_of if points)
        self.problems += folder.problems
        if not series:
            raise SourceError(str(folder.path), "the run holds no metrics", "give another run")
        return series

    def _facts(self, folder: _Folder, run: Run, series: list[history.Series]) -> RunFacts:
        tags = {k.removeprefix(told.OURS): v for k, v in run.data.tags.items() if k.startswith(told.OURS)}
        try:
            return RunFacts.from_tags({"run_id": run.info.run_id, "began": began_at(run, series)} | tags)
        except ValueError as error:
            reason = f"one of its rldk.* tags was edited: {error}"
            raise SourceError(str(folder.path), reason, "correct the tag") from error

    def _note(self, folder: _Folder) -> Callable[[str], None]:
        return lambda sentence: self.problems.append(f"{folder.path}: {sentence}")

    def _error(self, reason: str, remedy: str) -> SourceError:
        return SourceError(self._source, reason, remedy)


def _top(source: str) -> Path:
    path = Path(source)
    return path.parent if path.name in {_EXPORT, _META} and path.is_file() else path


class _Search:
    """A search for runs in a folder, which follows no links and looks no further than MLflow nests.

    Args:
        most: How many files and folders are looked at.

    Attributes:
        problems: What could not be looked at.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self.problems: list[str] = []

    def runs(self, folder: Path, depth: int = 0) -> Iterator[_Folder]:
        found = _run_in(folder)
        if found is not None:
            yield found
        elif depth <= _DEEPEST:
            for path in self._folders_in(folder, depth):
                yield from self.runs(path, depth + 1)

    def _folders_in(self, folder: Path, depth: int) -> list[Path]:
        try:
            inner = sorted(islice(folder.iterdir(), self._left))
            folders = [path for path in inner if path.is_dir() and not path.is_symlink()]
        except OSError as error:
            if not depth:
                raise
            self.problems.append(f"{folder}: passed over, for it cannot be read: {error}")
            return []
        self._left -= len(inner)
        return [path for path in folders if path.name != _TRASH]


def _run_in(folder: Path) -> _Folder | None:
    meta = folder / _META
    if meta.is_file() and _is_inside(meta, folder):
        told_of = text_files.flat_yaml(meta)
        return _StoredRun(folder) if told_of.get("run_id") or told_of.get("run_uuid") else None
    return _ExportedRun(folder) if _is_export(folder / _EXPORT) else None


def _is_export(path: Path) -> bool:
    """Whether a file begins as mlflow-export-import's `run.json` does, and is no link out of its folder."""
    if not path.is_file() or not _is_inside(path, path.parent):
        return False
    with path.open("rb") as file:
        head = file.read(text_files.LONGEST_LINE)
    return head.lstrip()[:1] == b"{" and (b'"mlflow"' in head or b'"system"' in head)


def _start(folder: _Folder) -> tuple[int, str]:
    return folder.info().start_time or 0, str(folder.path)


class _StoredRun:
    """A run's folder in MLflow's file store.

    See https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/file_store.py.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def info(self) -> Info:
        meta = text_files.flat_yaml(self.path / _META)
        return _info(meta, self.path.name)

    def run(self) -> Run:
        name = text_files.flat_yaml(self.path / _META).get("run_name", "")
        tags = ({"mlflow.runName": name} if name else {}) | self._texts("tags")
        return Run(self.info(), Data(self._texts("params"), tags))

    def project(self) -> str:
        meta = self.path.parent / _META
        return text_files.flat_yaml(meta).get("name", "") if meta.is_file() else ""

    def histories(self) -> Iterator[tuple[str, list[Point]]]:
        for key, path in self._files("metrics"):
            points, bad = text_files.points(path)
            if bad:
                what = f"{len(bad)} lines are no points and were skipped, the first is line {bad[0]}"
                self.problems.append(f"{path}: {what}")
            yield key, points

    def _texts(self, kind: str) -> dict[str, str]:
        return {key: text_files.text(path) for key, path in self._files(kind)}

    def _files(self, kind: str) -> Iterator[tuple[str, Path]]:
        """Give the files of a kind by the names that their paths are; links that lead out are refused."""
        top = self.path / kind
        files = [path for path in islice(_walked(top), _MOST_FILES + 1) if path.is_file()]
        if len(files) > _MOST_FILES:
            raise ValueError(f"it holds more than {_MOST_FILES:,} {kind}")
        for path in sorted(files):
            if _is_inside(path, self.path):
                yield path.relative_to(top).as_posix(), path
            else:
                self.problems.append(f"{path}: a link that leads out of the run's folder is refused")


class _Exported(msgspec.Struct):
    """What mlflow-export-import writes of a run."""

    info: dict[str, Any]
    params: dict[str, Any] = {}
    metrics: dict[str, list[_ExportedPoint]] = {}
    tags: dict[str, Any] = {}


class _ExportedPoint(msgspec.Struct):
    value: Any
    timestamp: float
    step: float = 0


class _Export(msgspec.Struct):
    mlflow: _Exported


_decoder: Final = msgspec.json.Decoder(_Export)
_PEEK: Final = re.compile(
    rb'"(run_id|run_uuid|status|start_time|end_time|lifecycle_stage)":\s*("[^"]{0,300}"|-?[\d.]{1,30})'
)
_BARE: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?(?:NaN|Infinity)\b')


class _ExportedRun:
    """A run's folder as mlflow-export-import writes it: https://github.com/mlflow/mlflow-export-import."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._held: _Exported | None = None

    def info(self) -> Info:
        """Look at the beginning of the export: it tells of the run before it gives its metrics."""
        with (self.path / _EXPORT).open("rb") as file:
            head = file.read(text_files.LONGEST_TEXT)
        found = reversed(_PEEK.findall(head))  # the first ones are the run's own
        told_of = {key.decode(): text_files.scalar(value.decode("utf-8", "replace")) for key, value in found}
        return _info(told_of, self.path.name)

    def run(self) -> Run:
        read = self._read()
        info = {key: str(value) for key, value in read.info.items() if value is not None}
        known = _info(info, self.path.name)
        name = {"mlflow.runName": info["run_name"]} if "run_name" in info else {}
        return Run(known, Data(_as_texts(read.params), name | _as_texts(read.tags)))

    def project(self) -> str:
        """The experiment's name, where the export is one of a whole experiment."""
        path = self.path.parent / "experiment.json"
        try:
            told_of: Any = json.loads(text_files.text(path)) if path.is_file() else {}
        except (ValueError, RecursionError, OSError):
            return ""
        for key in ("mlflow", "experiment", "name"):
            told_of = told_of.get(key) if isinstance(told_of, dict) else None
        return told_of if isinstance(told_of, str) else ""

    def histories(self) -> Iterator[tuple[str, list[Point]]]:
        for key, found in sorted(self._read().metrics.items()):
            points = [point for each in found if (point := _exported(each)) is not None]
            if len(points) < len(found):
                what = f"{len(found) - len(points)} points of {key} are none and were skipped"
                self.problems.append(f"{self.path}: {what}")
            yield key, points
        self._held = None

    def _read(self) -> _Exported:
        if self._held is None:
            path = self.path / _EXPORT
            if path.stat().st_size > _LONGEST_EXPORT:
                raise ValueError(f"{_EXPORT} is larger than {_LONGEST_EXPORT >> 20} MiB")
            text = path.read_bytes()
            try:
                self._held = _decoder.decode(text).mlflow
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                # Python's own json writes NaN and Infinity bare, which no JSON reader but itself accepts.
                self._held = _decoder.decode(_BARE.sub(_quoted, text)).mlflow
        return self._held


def _info(told_of: Mapping[str, str], name: str) -> Info:
    status = told_of.get("status", "")
    return Info(
        run_id=told_of.get("run_id") or told_of.get("run_uuid") or name,
        status=_STATUS.get(status, status),
        start_time=whole(told_of.get("start_time")),
        end_time=whole(told_of.get("end_time")),
        lifecycle_stage=told_of.get("lifecycle_stage", "active"),
    )


def _quoted(match: re.Match[bytes]) -> bytes:
    return match[0] if match[0].startswith(b'"') else b'"' + match[0] + b'"'


def _exported(found: _ExportedPoint) -> Point | None:
    try:
        return text_files.point(found.timestamp, found.step, float(found.value))
    except (TypeError, ValueError, OverflowError):
        return None


def _as_texts(told_of: dict[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else str(value) for key, value in told_of.items()}


def _walked(top: Path) -> Iterator[Path]:
    """Everything in a folder, at any depth; links are given, and not followed."""
    for folder, folders, files in os.walk(top):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in (*files, *links))


def _is_inside(path: Path, top: Path) -> bool:
    return path.resolve().is_relative_to(top.resolve())


if TYPE_CHECKING:
    from rldk.bridge import Adapter

    _conforms: type[Adapter] = MLflowFolderAdapter
