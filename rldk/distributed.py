"""How is the table of many runs read on many machines: as a lazy Dask DataFrame."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from rldk.canonical import advice
from rldk.errors import MissingDependencyError
from rldk.frame import links, measured, table
from rldk.reading import Reading, called_alike, free_name, units_of
from rldk.redact import logger
from rldk.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from rldk.errors import SourceError
    from rldk.frame import Attempts
    from rldk.sources import Found, RunSource

_logger = logger(__name__)


class Look(NamedTuple):
    """What a first reading of one source has found out.

    Attributes:
        runs: The ids of its runs, as they came.
        raw: Those of them that RLDK did not record.
        names: Every metric that is in a row of its table.
        continues: Run to the run whose checkpoint it resumed.
        trainers: Run to its trainer.
        unknown: How often each name came that the catalog does not know.
        problems: What could not be read, a sentence each.
        failure: Why the source could not be read at all; None where it could.
    """

    runs: list[str]
    raw: list[str]
    names: set[str]
    continues: dict[str, str]
    trainers: dict[str, str]
    unknown: Counter[str]
    problems: list[str]
    failure: SourceError | MissingDependencyError | None


class Part(NamedTuple):
    """A source of a partition, and what the ids of its runs are in the table, by the ids as they come."""

    run: RunSource
    names: dict[str, str]


def lazy_table(
    found: Found,
    *,
    attempts: Attempts = "latest",
    join: bool = False,
    field_map: Mapping[str, str] | None = None,
) -> Any:  # noqa: ANN401  # dask.dataframe.DataFrame, of an optional library
    """Give the TrainingMetrics table of many runs as a Dask DataFrame, a partition for each source.

    A source is nearly always one run. Each is read twice, both times by Dask's workers, which must reach it
    under the same path or address: once now, for the columns must be known before the rows are, and once
    when they are asked for. All are looked at together, so nobody is told of each; Dask has a dashboard.
    What belongs together is one partition: a run of which several sources hold a part and, with `join`,
    runs that resumed one another. Each partition is sorted as `rldk.frame.table` says, and its index begins
    at 0. `_meta.attrs` tells what `df.attrs` does.

    Args:
        found: The sources of the runs.
        attempts: As in `rldk.frame.table`.
        join: As in `rldk.frame.table`.
        field_map: Raw name to canonical name, for what the catalog does not know.

    Raises:
        SourceError: None of the sources can be read.
        SettingError: `attempts` is neither.
        MissingDependencyError: Dask is not installed.
    """
    dask, frames = _dask()
    looks = dask.compute(*[dask.delayed(look)(run, field_map, attempts) for run in found.runs])
    failures = [seen.failure for seen in looks if seen.failure is not None]
    if failures and not any(seen.runs for seen in looks):
        raise failures[0]
    ids, alike = _ids(looks)
    names = sorted({name for seen in looks for name in seen.names})
    meta = table([], attempts=attempts, names=names)
    forks = links(_runs(looks, ids))[1] if join else []
    meta.attrs |= _attrs(found, looks, ids, [*alike, *forks], meta.columns)
    for problem in meta.attrs["problems"]:
        _logger.warning("%s", problem)
    asked = {"attempts": attempts, "join": join, "field_map": field_map, "names": names}
    return frames.from_map(read, _partitions(found.runs, looks, ids, join=join) or [[]], meta=meta, **asked)


def look(run: RunSource, field_map: Mapping[str, str] | None = None, attempts: Attempts = "latest") -> Look:
    """Read one source for what must be known before its rows are."""
    reading = Reading(field_map)
    reading.read(run.open())
    runs = reading.runs.values()
    return Look(
        runs=[rows.run_id for rows in runs],
        raw=reading.raw,
        names=measured(runs, attempts=attempts),
        continues={rows.run_id: rows.continues for rows in runs if rows.continues is not None},
        trainers=reading.trainers,
        unknown=reading.unknown,
        problems=reading.problems,
        failure=next(iter(reading.failures), None),
    )


def read(
    parts: Sequence[Part],
    attempts: Attempts,
    names: Sequence[str],
    *,
    join: bool = False,
    field_map: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read one partition.

    Raises:
        SourceError: A source that could be read before cannot be read now.
        MissingDependencyError: A library that it needs is not installed where it is read now.
    """
    reading = Reading(field_map)
    for part in parts:
        reading.names = part.names
        if not reading.read(part.run.open()):
            raise reading.failures[0]
    return table(reading.runs.values(), attempts=attempts, join=join, names=names)


def _ids(looks: Sequence[Look]) -> tuple[list[dict[str, str]], list[str]]:
    """Choose what the ids of each source's runs are in the table, as `Reading` does, and say what changes."""
    ids = [dict(zip(own, own, strict=True)) for own in map(_own, looks)]
    used = {run_id for names in ids for run_id in names}
    taken = {run_id for seen in looks for run_id in seen.runs}
    alike = []
    for names, seen in zip(ids, looks, strict=True):
        for run_id in seen.raw:
            names[run_id] = free_name(run_id, taken) if run_id in used else run_id
            if names[run_id] != run_id:
                alike.append(called_alike(run_id, names[run_id]))
            used.add(names[run_id])
            taken.add(names[run_id])
    return ids, alike


def _own(seen: Look) -> list[str]:
    raw = set(seen.raw)
    return [run_id for run_id in seen.runs if run_id not in raw]


def _runs(looks: Sequence[Look], ids: Sequence[Mapping[str, str]]) -> list[Rows]:
    """The runs, without their rows: those of RLDK first, as `Reading` has them."""
    own = [(names, seen, run_id) for names, seen in zip(ids, looks, strict=True) for run_id in _own(seen)]
    raw = [(names, seen, run_id) for names, seen in zip(ids, looks, strict=True) for run_id in seen.raw]
    runs: dict[str, Rows] = {}
    for names, seen, run_id in [*own, *raw]:
        rows = runs.setdefault(names[run_id], Rows(names[run_id]))
        rows.continues = rows.continues or seen.continues.get(run_id)
    return list(runs.values())


def _partitions(
    runs: Sequence[RunSource], looks: Sequence[Look], ids: Sequence[dict[str, str]], *, join: bool
) -> list[list[Part]]:
    """Put sources together that hold parts of one run, or of runs that resumed one another."""
    groups: list[tuple[set[str], list[Part]]] = []
    for run, seen, names in zip(runs, looks, ids, strict=True):
        if seen.failure is not None:
            continue
        tied = {*names.values(), *(seen.continues.values() if join else ())}
        touched = [group for group in groups if group[0] & tied]
        groups = [group for group in groups if not group[0] & tied]
        keys = tied.union(*(group[0] for group in touched))
        groups.append((keys, [*(part for group in touched for part in group[1]), Part(run, names)]))
    return [parts for _, parts in groups]


def _attrs(
    found: Found,
    looks: Sequence[Look],
    ids: Sequence[Mapping[str, str]],
    said: Sequence[str],
    columns: Iterable[str],
) -> dict[str, Any]:
    trainers = {
        names[run]: trainer
        for names, seen in zip(ids, looks, strict=True)
        for run, trainer in seen.trainers.items()
    }
    unknown = sum((seen.unknown for seen in looks), Counter[str]())
    advised = advice(unknown)
    problems = [*found.problems, *(problem for seen in looks for problem in seen.problems), *said]
    return {
        "adapter": ", ".join(dict.fromkeys(run.kind.name for run in found.runs)),
        "trainers": trainers,
        "units": units_of(columns, trainers.values()),
        "unknown": dict(unknown),
        "problems": problems + ([advised] if advised else []),
    }


def _dask() -> tuple[Any, Any]:
    try:
        return importlib.import_module("dask"), importlib.import_module("dask.dataframe")
    except ImportError as error:
        raise MissingDependencyError('engine="dask"', "dask", "dask") from error
