"""How do many runs become a partitioned Parquet data set: a file for each source, on any file system."""

from __future__ import annotations

import importlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

import msgspec

from rldk._version import __version__
from rldk.errors import MissingDependencyError, SettingError, SourceError
from rldk.export import arrow, as_arrow
from rldk.frame import Attempts
from rldk.parts import ENDING, PREFIX, Named, Told, opened, whole
from rldk.reading import Reading, free_name
from rldk.redact import redact_text
from rldk.schema import DTYPES, METRIC_DTYPE, SEGMENT
from rldk.sources import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rldk.parts import Part
    from rldk.sources import RunSource

_UNSAFE: Final = re.compile(r"[^\w.\-]+", re.ASCII)
_LONGEST_STEM: Final = 60
_ASKED_AT_ONCE: Final = 16


class Claim(NamedTuple):
    """A run of others that wants a name; the least of them comes first.

    Attributes:
        since: As in `Named`.
        file: The file that it is in.
        run_id: Its id as it came.
        name: What it is called so far.
    """

    since: float
    file: str
    run_id: str
    name: str


class Done(msgspec.Struct, kw_only=True):
    """What a call has done.

    Attributes:
        written: The sources whose file was written.
        kept: The sources whose file was there already, and is up to date.
        failed: Source and reason of each that could not be read.
        rows: How many rows the written files hold.
        problems: What could not be read of the others, which runs got names of their own, and which files
            of the data set are none of RLDK's, a sentence each.
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
        at: When the call began, in seconds since the epoch.
        attempts: As in `rldk.frame.table`.
        field_map: Raw name to canonical name, for what the catalog does not know.
        is_again: Whether to read a source whose file is up to date, too.
    """

    target: str
    storage: dict[str, Any] = {}
    at: float
    attempts: Attempts = "latest"
    field_map: dict[str, str] = {}
    is_again: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What became of one source: its rows, or None where its file was up to date, or why it failed.

    `lacking` is the error where that is a library which is not installed.
    """

    source: str
    rows: int | None = None
    failure: str = ""
    lacking: MissingDependencyError | None = None
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

    Each source (nearly always one run) becomes a file `part-<name>-<hash>.parquet`, written at once or not
    at all; in the end all files have the same columns, so that any reader takes the folder as one table. A
    call that was interrupted can be made again: what is up to date is kept. What is read of this machine's
    files is read again when the size or time of one has changed. A run of a tracker is read again until it
    has ended; then, though somebody may have resumed it, only with `again`. NaN is a value, null was not
    measured. Of runs that others logged under one id the later get names of their own, which they keep.

    Two calls at a time on one data set are safe, but each may do the work of both, and what the one has
    written while the other evened out the columns may be evened out by the next call alone.

    Args:
        source: As `rldk.ingest.ingest_runs` takes it; one of many that cannot be read, for want of a
            library too, is told and stops no other.
        target: The folder, or its URL, such as `s3://bucket/runs`.
        adapter_hint: Name of the adapter to use.
        attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt of each or `all`.
        field_map: Raw name to canonical name, for what the catalog does not know.
        storage_options: Options of the file system, as fsspec takes them.
        again: Read what is up to date and what has ended, too.
        client: A Dask cluster whose workers do the reading and writing; by default this process does.
        watch: Called after each source with it, its number from 0, and how many there are.

    Raises:
        UnknownSourceError: No adapter recognises a source.
        SourceError: Nothing of the sources can be read.
        SettingError: `attempts` is neither.
        TargetError: The data set cannot be written.
        MissingDependencyError: pyarrow, or what the file system or every source needs, is not installed.
    """
    if attempts not in get_args(Attempts):
        raise SettingError("attempts", attempts, "latest or all")
    found = listed(source, adapter_hint)
    job = Job(
        target=str(target),
        storage=dict(storage_options or {}),
        at=time.time(),
        attempts=attempts,
        field_map=dict(field_map or {}),
        is_again=again,
    )
    with opened(job.target, job.storage) as files:
        files.fs.makedirs(files.path, exist_ok=True)
    done = Done(problems=found.problems)
    lacking = None
    for number, outcome in enumerate(_outcomes(found.runs, job, client)):
        watch(outcome.source, number, len(found.runs))
        _note(done, outcome)
        lacking = lacking or outcome.lacking
    if done.failed and not done.written and not done.kept:
        if lacking is not None:
            raise lacking
        shown, reason = next(iter(done.failed.items()))
        raise SourceError(shown, reason, "give sources that can be read")
    done.problems += unify(job)
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
        MissingDependencyError: A library that the file system needs is not installed.
    """
    shown = redact_text(run.source)
    states = _states(run.files())
    before = _stamp(states, job)
    with opened(job.target, job.storage) as files:
        part = files.part(_name(run))
    if part is not None and part.told.stamp == before and not job.is_again:
        return Outcome(source=shown, problems=part.told.said())
    reading = Reading(job.field_map)
    if not reading.read(run.open()):
        error = reading.failures[0]
        lacking = error if isinstance(error, MissingDependencyError) else None
        return Outcome(source=shown, failure=redact_text(str(error)), lacking=lacking)
    table = reading.table(attempts=job.attempts)
    is_known = bool(states) or all(rows.has_ended for rows in reading.runs.values())
    told = Told(
        stamp=before if is_known else "",
        own=sorted(reading.runs.keys() - set(reading.raw)),
        raw={run_id: Named(run_id, job.at) for run_id in reading.raw},
        problems=[redact_text(problem) for problem in table.attrs["problems"]],
    )
    named = _as_before(told, {} if part is None else part.told.raw)
    written = _united(as_arrow(table), list(table.columns), _renamed(told, named))
    with opened(job.target, job.storage) as files:
        files.write(_name(run), written, named)
    return Outcome(source=shown, rows=len(table), problems=named.said())


def _as_before(told: Told, before: Mapping[str, Named]) -> Told:
    """Call the runs of a file as they were called when it was written before."""
    runs = told.raw | {run_id: run for run_id, run in before.items() if run_id in told.raw}
    claims = [Claim(run.since, "", run_id, run.name) for run_id, run in runs.items()]
    names = settled(claims, told.own)
    raw = {claim.run_id: Named(name, claim.since) for claim, name in names.items()}
    return msgspec.structs.replace(told, raw=raw)


def settled(claims: Iterable[Claim], own: Iterable[str]) -> dict[Claim, str]:
    """Give each run of others a name that no other run has: the one that it has, if that is free.

    Args:
        claims: The runs.
        own: The ids of the runs that RLDK recorded, which stay.
    """
    taken = set(own)
    names: dict[Claim, str] = {}
    late: list[Claim] = []
    for claim in sorted(claims):
        if claim.name in taken:
            late.append(claim)
        else:
            names[claim] = claim.name
            taken.add(claim.name)
    for claim in late:
        names[claim] = free_name(claim.run_id, taken)
        taken.add(names[claim])
    return names


def unify(job: Job) -> list[str]:
    """Give all files the same columns, and runs of others that are called alike names of their own.

    A file that another process writes meanwhile is left to it.

    Returns:
        Which runs got another name, and which files are left as they are, for they are damaged or none of
        RLDK's; a sentence each.

    Raises:
        TargetError: It cannot be written.
    """
    with opened(job.target, job.storage) as files:
        names = files.names()
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            found = dict(zip(names, pool.map(files.part, names), strict=True))
        problems = [_left(name) for name, part in found.items() if part is None]
        parts = {name: part for name, part in found.items() if part is not None}
        columns = _columns(parts.values())
        for name, told in _named(parts).items():
            part = parts[name]
            if part.columns == columns and told == part.told:
                continue
            table = files.read(name, whole)
            if table is None:
                problems.append(_left(name))
                continue
            renamed = _renamed(part.told, told)
            united = _united(table, columns, renamed)
            if files.part(name) == part:
                files.write(name, united, told)
                problems += [problem for problem in told.said() if problem not in part.told.said()]
    return problems


def _left(name: str) -> str:
    return f"{name} in the data set is damaged, or RLDK did not write it; it is left as it is"


def _columns(parts: Iterable[Part]) -> list[str]:
    """The columns that all files are to have, in their order."""
    names = {name for part in parts for name in part.columns}
    segment = [SEGMENT.name] if SEGMENT.name in names else []
    return [*DTYPES, *segment, *sorted(names - {*DTYPES, *segment})]


def _named(parts: Mapping[str, Part]) -> dict[str, Told]:
    """What each file tells once every run has a name of its own."""
    claims = [
        Claim(run.since, file, run_id, run.name)
        for file, part in parts.items()
        for run_id, run in part.told.raw.items()
    ]
    names = settled(claims, {run_id for part in parts.values() for run_id in part.told.own})
    raw: dict[str, dict[str, Named]] = {file: {} for file in parts}
    for claim, name in names.items():
        raw[claim.file][claim.run_id] = Named(name, claim.since)
    return {file: msgspec.structs.replace(part.told, raw=raw[file]) for file, part in parts.items()}


def _renamed(before: Told, told: Told) -> dict[str, str]:
    """Which names of a file's runs must change, to what."""
    return {
        run.name: told.raw[run_id].name
        for run_id, run in before.raw.items()
        if run.name != told.raw[run_id].name
    }


def _united(table: Any, columns: Sequence[str], renamed: Mapping[str, str]) -> Any:  # noqa: ANN401  # pyarrow.Table
    pa = arrow()
    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    dtypes = DTYPES | {SEGMENT.name: SEGMENT.dtype}
    have = {name: table.column(name) for name in table.column_names}
    for name in columns:
        dtype = dtypes.get(name, METRIC_DTYPE).lower()
        have.setdefault(name, pa.nulls(len(table), types[dtype]))
    if renamed:
        ids = have["run_id"].to_pylist()
        have["run_id"] = pa.array([renamed.get(run_id, run_id) for run_id in ids], have["run_id"].type)
    return pa.table({name: have[name] for name in columns})


def _name(run: RunSource) -> str:
    """Name a source's file: the same for the same source, by whatever path it is given."""
    place = run.place()
    parts = [part for part in re.split(r"[/\\#]", redact_text(place)) if part]
    stem = _UNSAFE.sub("_", parts[-1] if parts else "run")[:_LONGEST_STEM]
    digest = blake2b(f"{run.kind.name}:{place}".encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{PREFIX}{stem}-{digest}{ENDING}"


def _stamp(states: Sequence[tuple[str, int, int]], job: Job) -> str:
    """Tell in which state a source is, what is asked of it, and who reads it."""
    asked = [__version__, job.attempts, sorted(job.field_map.items()), states]
    return blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()


def _states(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """The place, size and time of each file; one that is gone meanwhile has none."""
    found = []
    for file in files:
        try:
            told = file.stat()
        except OSError:
            continue
        place = os.path.realpath(file).encode("utf-8", "replace").decode()
        found.append((place, told.st_size, told.st_mtime_ns))
    return sorted(found)
