"""How fast does a long journal become the table, beside pandas' own reading and the floor?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import reading, workload
from benchmarks.result import Goal, Result, Row, Table
from rldk.ingest import ingest_runs
from rldk.journal import SUFFIX

if TYPE_CHECKING:
    from benchmarks.reading import Cost

_OURS: Final = "ingest_runs, to the table"
_PANDAS: Final = "pandas.read_json(lines=True) and json_normalize"
_POLARS: Final = "floor: polars.read_ndjson, no table"
_ARROW: Final = "floor: pyarrow.json.read_json, no table"


def measure(*, quick: bool) -> Result:
    """Read one journal in every way, in turns."""
    events, rounds = (2_000, 1) if quick else (1_000_000, 2)
    with workload.workplace() as folder:
        path = workload.write_journal(folder / f"run{SUFFIX}", events)
        small = workload.write_journal(folder / f"small{SUFFIX}", 200)
        size = path.stat().st_size
        ways = {_OURS: ours, _PANDAS: with_pandas, _POLARS: with_polars, _ARROW: with_arrow}
        costs = reading.in_turns({name: (way, str(path), str(small)) for name, way in ways.items()}, rounds)
    return Result(
        name="journal_read",
        question=__doc__ or "",
        tables=(_table(costs, events, size),),
        goals=_goals(costs),
        notes=_notes(events, size, rounds),
    )


def ours(source: str) -> object:
    """Read it as a user does."""
    return ingest_runs(source)


def with_pandas(source: str) -> object:
    """Read it as people do who have no RLDK: the metrics become columns, beside those of the line."""
    import pandas as pd  # noqa: PLC0415  # each contender's process loads its own library alone

    lines = pd.read_json(source, lines=True)
    return pd.concat([lines, pd.json_normalize(lines["metrics"].tolist())], axis=1)


def with_polars(source: str) -> Any:  # noqa: ANN401  # polars.DataFrame
    """Parse the lines, with all cores; the metrics stay what they are in a line."""
    import polars as pl  # noqa: PLC0415  # the same

    return pl.read_ndjson(Path(source)).height


def with_arrow(source: str) -> Any:  # noqa: ANN401  # pyarrow.Table
    """The same."""
    import pyarrow.json  # noqa: PLC0415  # the same

    return len(pyarrow.json.read_json(source))


def _table(costs: dict[str, list[Cost]], events: int, size: int) -> Table:
    floor = _floor(costs)
    columns = ("seconds", "us/event", "MB/s", "times the floor", "memory grown, MB", "the table's, MB")
    rows = []
    for name, each in costs.items():
        seconds = reading.median(each)
        grown, table = max(cost.grown for cost in each) / 1e6, each[0].table / 1e6
        rows.append(
            Row(
                name,
                (
                    seconds,
                    1e6 * seconds / events,
                    size / 1e6 / seconds,
                    seconds / floor,
                    grown,
                    table or None,
                ),
            )
        )
    return Table(f"A journal of {events:,} events of 20 metrics", columns, tuple(rows))


def _floor(costs: dict[str, list[Cost]]) -> float:
    return min(reading.median(costs[name]) for name in (_POLARS, _ARROW))


def _goals(costs: dict[str, list[Cost]]) -> tuple[Goal, ...]:
    seconds = reading.median(costs[_OURS])
    grown = max(cost.grown for cost in costs[_OURS]) / costs[_OURS][0].table
    return (
        Goal(
            "reading a journal: times as fast as pandas", "over", 5, reading.median(costs[_PANDAS]) / seconds
        ),
        Goal("reading a journal: time over the faster floor's", "under", 3, seconds / _floor(costs)),
        Goal("reading a journal: memory grown over the table's", "under", 4, grown),
    )


def _notes(events: int, size: int, rounds: int) -> str:
    return f"""\
- {rounds} rounds, in turns, each reading in a fresh process that has read a journal of 200 events before;
  the file ({size / 1e6:,.0f} MB) is in the system's cache. Memory is the growth of the process's largest
  resident size.
- pandas and `json_normalize` give a table of {events:,} rows that takes NaN for missing, and leaves seed,
  tokens and run in dictionaries. The floors parse the lines on all cores, and do nothing with them."""
