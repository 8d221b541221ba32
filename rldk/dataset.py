"""How do many runs become a partitioned Parquet data set: a file for each run, on any file system."""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from rldk._version import __version__
from rldk.errors import MissingDependencyError, SettingError, SourceError, TargetError
from rldk.export import arrow, as_arrow
from rldk.frame import Attempts
from rldk.reading import Reading
from rldk.redact import redact_text
from rldk.schema import DTYPES, METRIC_DTYPE
from rldk.sources import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rldk.sources import RunSource

PREFIX: Final = "part-"
_ENDING: Final = ".parquet"
_KEY: Final = b"rldk"
_UNSAFE: Final = re.compile(r"[^\w.\-]+", re.ASCII)
_LONGEST_STEM: Final = 60
_ASKED_AT_ONCE: Final = 16


class Told(msgspec.Struct, kw_only=True):
    """What a file of the data set tells of itself, in its Parquet metadata.

    Attributes:
        source: The run's source, without secrets.
        stamp: In which state the source was read, with which settings; empty where that cannot be told,
            so that it is read again.
        raw: The ids of its runs that RLDK did not record, by the names that they have in the data set.
        problems: What could not be read, a sentence each.
        rldk: The version that wrote it.
    """

    source: str
    stamp: str
    raw: dict[str, str]
    problems: list[str]
    rldk: str = __version__


class Done(msgspec.Struct, kw_only=True):
    """What a call has done.

    Attributes:
        written: The sources whose file was written.
        kept: The sources whose file was there already, and is up to date.
        failed: Source and reason of each that could not be read.
        rows: How many rows the written files hold.
        problems: What could not be read of the others, a sentence each.
    """

    written: list[str] = []
    kept: list[str] = []
    failed: dict[str, str] = {}
    rows: int = 0
    problems: list[str] = []


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do for one source; a worker on another machine can be sent it.

    Attributes:
        target: The folder or URL of the data set.
        storage: Options of the file system, as fsspec takes them.
        attempts: As in `rldk.frame.table`.
        field_map: Raw name to canonical name, for what the catalog does not know.
        is_again: Whether to read a source whose file is up to date, too.
    """

    target: str
    storage: dict[str, Any] = {}
    attempts: Attempts = "latest"
    field_map: dict[str, str] = {}
    is_again: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What became of one source: its rows, or None where its file was up to date, or why it failed."""

    source: str
    rows: int | None = None
    failure: str = ""
    problems: list[str] = []


def write_dataset(
    source: str | Path | Iterable[str | Path],
    target: str | Path,
    *,
    adapter_hint: str | None = None,
    attempts: Attempts = "latest",
    field_map: Mapping[str, str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    again: bool = False,
    client: Any = None,  # noqa: ANN401  # distributed.Client, of an optional library
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> Done:
    """Write the TrainingMetrics table of many runs as a Parquet data set, or go on with one.

    Each source becomes a file `part-<name>-<hash>.parquet`, written at once or not at all; in the end all
    files have the same columns, so that any reader takes the folder as one table. A call that was
    interrupted can be made again: what is up to date is kept. A file on this machine is read again when
    its size or time has changed, a run of a tracker until it has ended. NaN is a value, null was not
    measured. Of runs that others logged under one id the later get names of their own.

    Args:
        source: As `rldk.ingest.ingest_runs` takes it; one of many runs that cannot be read is told and
            stops no other.
        target: The folder, or its URL, such as `s3://bucket/runs`.
        adapter_hint: Name of the adapter to use.
        attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt of each or `all`.
        field_map: Raw name to canonical name, for what the catalog does not know.
        storage_options: Options of the file system, as fsspec takes them.
        again: Read what is up to date, too.
        client: A Dask cluster whose workers do the reading and writing; by default this process does.
        watch: Called after each run with its source, its number from 0, and how many there are.

    Raises:
        UnknownSourceError: No adapter recognises a source.
        SourceError: Nothing of the sources can be read.
        SettingError: `attempts` is neither.
        TargetError: The data set cannot be written.
        MissingDependencyError: pyarrow, or what the file system needs, is not installed.
    """
    if attempts not in get_args(Attempts):
        raise SettingError("attempts", attempts, "latest or all")
    found = listed(source, adapter_hint)
    job = Job(
        target=str(target),
        storage=dict(storage_options or {}),
        attempts=attempts,
        field_map=dict(field_map or {}),
        is_again=again,
    )
    with _writing(job) as files:
        files.fs.makedirs(files.path, exist_ok=True)
    done = Done(problems=found.problems)
    for number, outcome in enumerate(_outcomes(found.runs, job, client)):
        watch(outcome.source, number, len(found.runs))
        _note(done, outcome)
    if done.failed and not done.written and not done.kept:
        shown, reason = next(iter(done.failed.items()))
        raise SourceError(shown, reason, "give sources that can be read")
    unify(job)
    return done


def _outcomes(runs: Sequence[RunSource], job: Job, client: Any) -> Iterator[Outcome]:  # noqa: ANN401  # the same
    if client is None:
        return (write_part(run, job) for run in runs)
    finished = importlib.import_module("distributed").as_completed
    futures = client.map(write_part, runs, job=job, pure=False)
    return (each.result() for each in finished(futures, loop=client.loop))


def _note(done: Done, outcome: Outcome) -> None:
    if outcome.failure:
        done.failed[outcome.source] = outcome.failure
    elif outcome.rows is None:
        done.kept.append(outcome.source)
    else:
        done.written.append(outcome.source)
        done.rows += outcome.rows
    done.problems += outcome.problems


def write_part(run: RunSource, job: Job) -> Outcome:
    """Write the file of one source, unless it is up to date.

    Raises:
        TargetError: It cannot be written.
        MissingDependencyError: A library that the source or the file system needs is not installed.
    """
    shown = redact_text(run.source)
    before = _stamp(run, job)
    with _writing(job) as files:
        told = files.told(_name(run))
    if told is not None and told.stamp and told.stamp == before and not job.is_again:
        return Outcome(source=shown)
    reading = Reading(job.field_map)
    if not reading.read(run.open()):
        return Outcome(source=shown, failure=redact_text(str(reading.failures[0])))
    table = reading.table(attempts=job.attempts)
    ended = all(rows.has_ended for rows in reading.runs.values())
    problems = [redact_text(problem) for problem in table.attrs["problems"]]
    raw = {run_id: run_id for run_id in reading.raw}
    stamp = before if ended or _is_local(run) else ""
    with _writing(job) as files:
        files.write(_name(run), as_arrow(table), Told(source=shown, stamp=stamp, raw=raw, problems=problems))
    return Outcome(source=shown, rows=len(table), problems=problems)


def unify(job: Job) -> None:
    """Give all files the same columns, and runs of others that are called alike names of their own.

    Raises:
        TargetError: It cannot be written.
    """
    with _writing(job) as files:
        names = files.names()
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            parts = dict(zip(names, pool.map(files.schema, names), strict=True))
        metrics = {name for schema in parts.values() for name in schema.names} - set(DTYPES)
        columns = [*DTYPES, *sorted(metrics)]
        seen: Counter[str] = Counter()
        for name, schema in parts.items():
            told = _told(schema)
            renamed = _renamed(told.raw, seen) if told is not None else {}
            if told is not None and (schema.names != columns or renamed):
                files.write(name, _united(files.read(name), columns, renamed), _with_names(told, renamed))


def _renamed(raw: Mapping[str, str], seen: Counter[str]) -> dict[str, str]:
    """Which runs' names must change, to what; counts the names."""
    renamed: dict[str, str] = {}
    for name, shown in raw.items():
        seen[name] += 1
        due = name if seen[name] == 1 else f"{name}-{seen[name]}"
        if due != shown:
            renamed[shown] = due
    return renamed


def _with_names(told: Told, renamed: Mapping[str, str]) -> Told:
    raw = {name: renamed.get(shown, shown) for name, shown in told.raw.items()}
    return msgspec.structs.replace(told, raw=raw)


def _united(table: Any, columns: Sequence[str], renamed: Mapping[str, str]) -> Any:  # noqa: ANN401  # pyarrow.Table
    pa = arrow()
    empty = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    have = {name: table.column(name) for name in table.column_names}
    for name in columns:
        dtype = DTYPES.get(name, METRIC_DTYPE).lower()
        have.setdefault(name, pa.nulls(len(table), empty[dtype]))
    ids = have["run_id"].to_pylist()
    have["run_id"] = pa.array([renamed.get(run_id, run_id) for run_id in ids], have["run_id"].type)
    return pa.table({name: have[name] for name in columns})


class _Files:
    """The files of one data set."""

    def __init__(self, fs: Any, path: str) -> None:  # noqa: ANN401  # fsspec.AbstractFileSystem
        self.fs = fs
        self.path = path

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        found = (str(path).rsplit("/", 1)[-1] for path in self.fs.ls(self.path, detail=False))
        return sorted(name for name in found if name.startswith(PREFIX) and name.endswith(_ENDING))

    def schema(self, name: str) -> Any:  # noqa: ANN401  # pyarrow.Schema
        with self.fs.open(f"{self.path}/{name}", "rb") as file:
            return arrow().parquet.read_schema(file)

    def told(self, name: str) -> Told | None:
        """What a file tells of itself; None where there is none, or it is damaged."""
        try:
            return _told(self.schema(name))
        except (FileNotFoundError, arrow().ArrowInvalid):
            return None

    def read(self, name: str) -> Any:  # noqa: ANN401  # pyarrow.Table
        with self.fs.open(f"{self.path}/{name}", "rb") as file:
            return arrow().parquet.ParquetFile(file).read()

    def write(self, name: str, table: Any, told: Told) -> None:  # noqa: ANN401  # pyarrow.Table
        """Write a file; it appears whole, as an object store has it anyway."""
        table = table.replace_schema_metadata({_KEY: msgspec.json.encode(told)})
        is_local = "file" in self.fs.protocol
        new = f"{self.path}/.{name}" if is_local else f"{self.path}/{name}"
        with self.fs.open(new, "wb") as file:
            arrow().parquet.write_table(table, file)
        if is_local:
            Path(new).replace(f"{self.path}/{name}")


def _told(schema: Any) -> Told | None:  # noqa: ANN401  # pyarrow.Schema
    try:
        return msgspec.json.decode((schema.metadata or {}).get(_KEY, b""), type=Told)
    except msgspec.MsgspecError:
        return None


def _name(run: RunSource) -> str:
    """Name a source's file: the same for the same source, from whatever folder it is given."""
    source = _absolute(run.source)
    parts = [part for part in re.split(r"[/\\#]", redact_text(run.source)) if part]
    stem = _UNSAFE.sub("_", parts[-1] if parts else "run")[:_LONGEST_STEM]
    digest = blake2b(f"{run.kind.name}:{source}".encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{PREFIX}{stem}-{digest}{_ENDING}"


def _absolute(source: str) -> str:
    return str(Path(source).absolute()) if _exists(source) else source


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # a name that is too long, or not a name at all
        return False


def _is_local(run: RunSource) -> bool:
    return _exists(run.source)


def _stamp(run: RunSource, job: Job) -> str:
    """Tell in which state a source is, and what is asked of it."""
    asked = [job.attempts, sorted(job.field_map.items())]
    state = sorted(_states(Path(run.source))) if _is_local(run) else []
    return blake2b(msgspec.json.encode([asked, state]), digest_size=16).hexdigest()


def _states(path: Path) -> Iterator[tuple[str, int, int]]:
    files: Iterable[Path] = (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    for file in files:
        told = file.stat()
        yield str(file.relative_to(path)), told.st_size, told.st_mtime_ns


@contextmanager
def _writing(job: Job) -> Iterator[_Files]:
    arrow()
    try:
        fsspec = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise MissingDependencyError("writing a data set", "fsspec", "parquet") from error
    shown = redact_text(job.target)
    remedy = "check the folder or URL, its credentials, and that its place can be reached"
    try:
        fs, path = fsspec.url_to_fs(job.target, **job.storage)
        yield _Files(fs, path.rstrip("/"))
    except ImportError as error:
        raise TargetError(shown, str(error), "install what fsspec needs for it") from error
    except _failures() as error:
        raise TargetError(shown, redact_text(str(error) or type(error).__name__), remedy) from error


def _failures() -> tuple[type[Exception], ...]:
    """What file systems raise; S3's library has exceptions that are no OSError."""
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError, ValueError) if botocore is None else (OSError, ValueError, botocore.BotoCoreError)
