"""How is the table of many runs read on many machines: as a lazy Dask DataFrame."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from rldk.canonical import advice
from rldk.errors import MissingDependencyError, SourceError
from rldk.frame import table
from rldk.reading import Reading, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from rldk.frame import Attempts
    from rldk.sources import Found, RunSource

_logger = logging.getLogger(__name__)


class Look(NamedTuple):
    """What a first reading of one run's source has found out.

    Attributes:
        runs: The ids of its runs, as they came.
        raw: Those of them that RLDK did not record.
        names: Every metric.
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
    failure: SourceError | None


class Part(NamedTuple):
    """A source of a partition, and how many runs of each of its ids the sources before it hold."""

    run: RunSource
    seen: dict[str, int]


def lazy_table(
    found: Found,
    *,
    attempts: Attempts = "latest",
    join: bool = False,
    field_map: Mapping[str, str] | None = None,
) -> Any:  # noqa: ANN401  # dask.dataframe.DataFrame, of an optional library
    """Give the TrainingMetrics table of many runs as a Dask DataFrame, a partition for each run.

    Each source is read twice, both times by Dask's workers, which must reach it under the same path or
    address: once now, for the columns must be known before the rows are, and once when they are asked
    for. What belongs together is one partition: a run of which several sources hold a part and, with
    `join`, runs that resumed one another. Each partition is sorted as `rldk.frame.table` says, and its
    index begins at 0. `_meta.attrs` tells what `df.attrs` does.

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
    looks = dask.compute(*[dask.delayed(look)(run, field_map) for run in found.runs])
    failures = [seen.failure for seen in looks if seen.failure is not None]
    if len(failures) == len(looks) and failures:
        raise failures[0]
    names = sorted({name for seen in looks for name in seen.names})
    meta = table([], attempts=attempts, names=names)
    meta.attrs |= _attrs(found, looks, meta.columns)
    for problem in meta.attrs["problems"]:
        _logger.warning("%s", problem)
    asked = {"attempts": attempts, "join": join, "field_map": field_map, "names": names}
    return frames.from_map(read, _partitions(found.runs, looks, join=join) or [[]], meta=meta, **asked)


def look(run: RunSource, field_map: Mapping[str, str] | None = None) -> Look:
    """Read one source for what must be known before its rows are."""
    reading = Reading(field_map)
    reading.read(run.open())
    runs = reading.runs.values()
    return Look(
        runs=[rows.run_id for rows in runs],
        raw=reading.raw,
        names={name for rows in runs for name in rows.names()},
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
    """
    reading = Reading(field_map)
    for part in parts:
        reading.seen = Counter(part.seen)
        if not reading.read(part.run.open()):
            raise reading.failures[0]
    return table(reading.runs.values(), attempts=attempts, join=join, names=names)


def _partitions(runs: Sequence[RunSource], looks: Sequence[Look], *, join: bool) -> list[list[Part]]:
    """Put sources together that hold parts of one run, or of runs that resumed one another."""
    groups: list[tuple[set[str], list[Part]]] = []
    count: Counter[str] = Counter()
    for run, seen in zip(runs, looks, strict=True):
        if seen.failure is not None:
            continue
        part = Part(run, {run_id: count[run_id] for run_id in seen.runs})
        count.update(seen.runs)
        own = set(seen.runs) - set(seen.raw)
        tied = own | ({*seen.continues, *seen.continues.values()} if join else set())
        touched = [group for group in groups if group[0] & tied]
        groups = [group for group in groups if not group[0] & tied]
        keys = tied.union(*(group[0] for group in touched))
        groups.append((keys, [*(part for group in touched for part in group[1]), part]))
    return [parts for _, parts in groups]


def _attrs(found: Found, looks: Sequence[Look], columns: Iterable[str]) -> dict[str, Any]:
    trainers = {run: trainer for seen in looks for run, trainer in seen.trainers.items()}
    unknown = sum((seen.unknown for seen in looks), Counter[str]())
    said = advice(unknown)
    problems = [*found.problems, *(problem for seen in looks for problem in seen.problems)]
    return {
        "adapter": ", ".join(dict.fromkeys(run.kind.name for run in found.runs)),
        "trainers": trainers,
        "units": units_of(columns, trainers.values()),
        "unknown": dict(unknown),
        "problems": problems + ([said] if said else []),
    }


def _dask() -> tuple[Any, Any]:
    try:
        return importlib.import_module("dask"), importlib.import_module("dask.dataframe")
    except ImportError as error:
        raise MissingDependencyError('engine="dask"', "dask", "dask") from error
