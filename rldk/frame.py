"""From events to the TrainingMetrics table: the one place with pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
import pandas as pd

from rldk.errors import SettingError
from rldk.event import as_float

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rldk.event import Event

_Row = dict[str, Any]

LEADING_METRICS: Final = (
    "reward_mean",
    "reward_std",
    "kl_mean",
    "entropy_mean",
    "clip_frac",
    "grad_norm",
    "lr",
    "loss",
)
DTYPES: Final[dict[str, str]] = {
    "step": "int64",
    "phase": "string",
    **dict.fromkeys(LEADING_METRICS, "Float64"),
    "tokens_in": "Int64",
    "tokens_out": "Int64",
    "wall_time": "float64",
    "seed": "Int64",
    "run_id": "string",
    "git_sha": "string",
}
"""The first columns of the table and their dtypes; every other metric follows as Float64, by name."""


def training_metrics(
    events: Iterable[Event], *, attempts: Literal["latest", "all"] = "latest", join: bool = False
) -> pd.DataFrame:
    """Put the metrics events of one or more runs into the TrainingMetrics table.

    One row for each run, step and phase, sorted by run and step. In the metric columns a missing
    value (`pd.NA`) was not measured, and NaN or an infinity is what the trainer measured;
    `Series.isna` is true for the former alone.

    Args:
        events: The events, in any order.
        attempts: Where a run was started again: `latest` keeps what led to its present state, so
            that a start at step 100 supersedes the steps beyond 100 of the earlier ones, and one at
            step 0 all of them. `all` keeps everything, with the number of the start in a column
            `segment`.
        join: Count a run that resumed another one under a new id (`continues`) as that one.

    Returns:
        The table, with the columns of `DTYPES` first.

    Raises:
        SettingError: `attempts` is neither.
    """
    if attempts not in {"latest", "all"}:
        raise SettingError("attempts", attempts, "latest or all")
    told = joined(events) if join else events
    told = list(told)
    merged = _merged(event for event in told if event.kind == "metrics")
    rows = sorted(merged if attempts == "all" else _latest(merged, _starts(told)), key=_order)
    names = sorted({name for row in rows for name in row["metrics"]} - set(LEADING_METRICS))
    dtypes = DTYPES | ({"segment": "Int64"} if attempts == "all" else {})
    columns = {name: _column(rows, name, dtype) for name, dtype in dtypes.items()}
    return pd.DataFrame(columns | {_shown(name): _column(rows, name, "Float64") for name in names})


def joined(events: Iterable[Event]) -> list[Event]:
    """Give the runs of a chain of resumptions the first one's id, and their starts one count."""
    events = list(events)
    told = ((e.run_id, e.model_info.get("continues")) for e in events)
    resumed = {run_id: before for run_id, before in told if isinstance(before, str)}
    chains = {run_id: _chain(run_id, resumed) for run_id in {e.run_id for e in events}}
    starts = sorted({(chains[e.run_id][0], len(chains[e.run_id]), e.segment) for e in events})
    first = {start[0]: i for i, start in reversed(list(enumerate(starts)))}
    number = {start: i - first[start[0]] for i, start in enumerate(starts)}
    return [_moved(e, chains[e.run_id], number) for e in events]


def _chain(run_id: str, resumed: dict[str, str]) -> list[str]:
    """The run, and before it those that it goes back to, the first one first."""
    chain = [run_id]
    while (before := resumed.get(chain[0])) is not None and before not in chain:
        chain.insert(0, before)
    return chain


def _moved(event: Event, chain: list[str], number: dict[tuple[str, int, int], int]) -> Event:
    segment = number[chain[0], len(chain), event.segment]
    info = event.model_info | {"run_id": chain[0], "segment": segment}
    return msgspec.structs.replace(event, model_info=info)


def _shown(metric: str) -> str:
    """Name of a metric's column; one that is called like another column moves aside."""
    return f"metric/{metric}" if metric in DTYPES or metric == "segment" else metric


def _merged(events: Iterable[Event]) -> list[_Row]:
    """One row for each attempt at a step: later logs of the same attempt add to it."""
    rows: dict[tuple[str, str, int, int], _Row] = {}
    for event in events:
        key = (event.run_id, event.phase, event.step, event.segment)
        if key in rows:
            rows[key]["metrics"] |= event.metrics
            rows[key] |= {name: count for name, count in _tokens(event).items() if count is not None}
        else:
            rows[key] = _row(event)
    return list(rows.values())


def _starts(events: Iterable[Event]) -> dict[str, list[tuple[int, int]]]:
    """Segment and step of each start of training in each run."""
    starts: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        if event.kind == "run" and not event.model_info.get("outside_training"):
            starts.setdefault(event.run_id, []).append((event.segment, event.step))
    return starts


def _latest(rows: list[_Row], starts: dict[str, list[tuple[int, int]]]) -> Iterable[_Row]:
    """Keep what led to the run's present state: a later start discards the steps beyond its own."""
    latest: dict[tuple[str, str, int], _Row] = {}
    for row in sorted(rows, key=lambda row: row["segment"]):
        later = (step for segment, step in starts.get(row["run_id"], ()) if segment > row["segment"])
        if row["step"] <= min(later, default=row["step"]):
            latest[row["run_id"], row["phase"], row["step"]] = row
    return latest.values()


def _row(event: Event) -> _Row:
    return {
        "segment": event.segment,
        "step": event.step,
        "phase": event.phase,
        "wall_time": event.wall_time,
        "seed": _int64(event.rng.get("seed")),
        "run_id": event.run_id,
        "git_sha": _text(event.model_info.get("git_sha")),
        "metrics": dict(event.metrics),
        **_tokens(event),
    }


def _tokens(event: Event) -> dict[str, Any]:
    return {name: _int64(event.data_slice.get(name)) for name in ("tokens_in", "tokens_out")}


def _int64(value: object) -> int | None:
    """A whole number that a column can hold; None for anything else."""
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole and -(2**63) <= value < 2**63 else None  # type: ignore[operator,call-overload]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _order(row: _Row) -> tuple[str, int, bool, int]:
    return row["run_id"], row["step"], row["phase"] == "eval", row["segment"]


def _column(rows: list[_Row], name: str, dtype: str) -> Any:  # noqa: ANN401  # an array of any dtype
    if dtype == "Float64":
        return _float_array([row["metrics"].get(name) for row in rows])
    return pd.Series([row.get(name) for row in rows], dtype=dtype)


def _float_array(values: list[int | float | None]) -> pd.arrays.FloatingArray:
    """Keep NaN and missing apart: pandas' own constructors take the one for the other."""
    numbers = np.array([0.0 if value is None else as_float(value) for value in values], dtype="float64")
    return pd.arrays.FloatingArray(numbers, np.array([value is None for value in values], dtype=bool))
