"""From any source to one table: find the adapter, read, frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from rldk.distributed import lazy_table
from rldk.errors import SettingError
from rldk.frame import Attempts
from rldk.reading import Reading
from rldk.sources import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pandas as pd

Engine = Literal["pandas", "dask"]


@overload
def ingest_runs(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = ...,
    attempts: Attempts = ...,
    join: bool = ...,
    field_map: Mapping[str, str] | None = ...,
    watch: Callable[[str, int, int], None] = ...,
    engine: Literal["pandas"] = ...,
) -> pd.DataFrame: ...


@overload
def ingest_runs(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = ...,
    attempts: Attempts = ...,
    join: bool = ...,
    field_map: Mapping[str, str] | None = ...,
    watch: Callable[[str, int, int], None] = ...,
    engine: Literal["dask"],
) -> Any: ...  # noqa: ANN401  # dask.dataframe.DataFrame, of an optional library


def ingest_runs(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = None,
    attempts: Attempts = "latest",
    join: bool = False,
    field_map: Mapping[str, str] | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
    engine: Engine = "pandas",
) -> Any:
    """Read runs from wherever they are kept into the TrainingMetrics table.

    What RLDK has recorded comes back as it was. What others have logged gets its names by the catalog,
    for the trainer whose keys they are; where RLDK recorded a run, what others logged beside it is left out.

    Args:
        source: A journal (`.jsonl`) or a folder of journals; `trainer_state.json`, a checkpoint or an output
            folder with some; a W&B run folder, its `.wandb` file, or a folder of such folders; a W&B run or
            project as the URL of its page, `wandb://ENTITY/PROJECT/ID` or `wandb://ENTITY/PROJECT`; an
            MLflow run as `runs:/ID`, as the URL of its page, or as `TRACKING_URI#runs/ID`
            (`sqlite:////data/mlflow.db#runs/ID`), a whole experiment as `TRACKING_URI#experiments/NAME`, and
            all of a database as its URL or, of SQLite, its path; docs/sources.md lists all others. Or
            several of these.
        adapter_hint: Name of the adapter to use, instead of asking each whether it recognises the source.
        attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt of each or `all`.
        join: Count a run that resumed another one of the source under a new id as that one; of several that
            resumed the same one, none is.
        field_map: Raw name to canonical name, for what the catalog does not know.
        watch: Called before each source of a run is read, with the source, its number from 0, and how many
            there are; not by Dask, which has a dashboard of its own.
        engine: `pandas` reads everything now, into memory. `dask` gives a lazy Dask DataFrame with the same
            columns and dtypes, a partition for each source (nearly always one run), on whatever scheduler
            Dask uses: see `rldk.distributed.lazy_table`.

    Returns:
        One row for each run, step and phase; see `rldk.frame.table`. `df.attrs` tells `adapter`,
        `trainers` (by run), `units` (by column), `unknown` (names that are not in the catalog, and how
        often they came) and `problems` (what could not be read, a sentence each, which are logged too).

    Raises:
        UnknownSourceError: No adapter recognises a source.
        UnknownBridgeError: No adapter has the name of the hint.
        SourceError: Nothing of the sources can be read.
        SettingError: `attempts` or `engine` is none of theirs.
        MissingDependencyError: A library that the source or the engine needs is not installed.
    """
    if engine not in get_args(Engine):
        raise SettingError("engine", engine, "pandas or dask")
    if attempts not in get_args(Attempts):
        raise SettingError("attempts", attempts, "latest or all")
    found = listed(source, adapter_hint)
    if engine == "dask":
        return lazy_table(found, attempts=attempts, join=join, field_map=field_map)
    reading = Reading(field_map)
    reading.problems += found.problems
    for number, run in enumerate(found.runs):
        watch(run.source, number, len(found.runs))
        reading.read(run.open())
    if not reading.runs and reading.failures:
        raise reading.failures[0]
    return reading.table(attempts=attempts, join=join)
