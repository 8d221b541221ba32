"""From the rows of runs to the TrainingMetrics table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from rldk.errors import SettingError
from rldk.rows import NO_COUNT, Rows
from rldk.schema import DTYPES, LEADING_METRICS, SEGMENT, column_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from rldk.event import Event
    from rldk.rows import Places, Start, Values

Attempts = Literal["latest", "all"]

_DROPPED: Final = -1


def training_metrics(
    events: Iterable[Event], *, attempts: Attempts = "latest", join: bool = False
) -> pd.DataFrame:
    """Put the metrics events of one or more runs into the TrainingMetrics table; see `table`.

    Args:
        events: The events, in any order.
        attempts: As in `table`.
        join: As in `table`.

    Raises:
        SettingError: `attempts` is neither.
    """
    runs: dict[str, Rows] = {}
    for event in events:
        run_id = event.run_id
        rows = runs.get(run_id)
        if rows is None:
            rows = runs[run_id] = Rows(run_id)
        rows.add(event)
    return table(runs.values(), attempts=attempts, join=join)


def table(
    runs: Iterable[Rows],
    *,
    attempts: Attempts = "latest",
    join: bool = False,
    names: Collection[str] | None = None,
) -> pd.DataFrame:
    """Build the TrainingMetrics table of runs, each of another id.

    One row for each run, step and phase, sorted by run and step. In the metric columns a missing
    value (`pd.NA`) was not measured, and NaN or an infinity is what the trainer measured;
    `Series.isna` is true for the former alone.

    Args:
        runs: The runs.
        attempts: Where a run was started again: `latest` keeps what led to its present state, so
            that a start at step 100 supersedes the steps beyond 100 of the earlier ones, and one at
            step 0 all of them. `all` keeps everything, with the number of the start in a column
            `segment`.
        join: Count a run that resumed another one under a new id (`continues`) as that one.
        names: The metrics that become columns behind the fixed ones; by default those that were measured.

    Returns:
        The table, with the columns of `rldk.schema.DTYPES` first.

    Raises:
        SettingError: `attempts` is neither.
    """
    if attempts not in {"latest", "all"}:
        raise SettingError("attempts", attempts, "latest or all")
    told = joined(runs) if join else list(runs)
    parts = [_placed(rows, attempts) for rows in sorted(told, key=_run_id)]
    told_names = {name for part in parts for name in part.names()} if names is None else names
    makers: dict[str, Callable[[Sequence[_Part], str], Any]] = {
        name: _MAKERS.get(name, _metric) for name in (*DTYPES, *([SEGMENT.name] if attempts == "all" else []))
    }
    columns = {name: make(parts, name) for name, make in makers.items()}
    columns |= {
        column_of(name): _metric(parts, name) for name in sorted(set(told_names) - set(LEADING_METRICS))
    }
    return pd.DataFrame(columns, copy=False)


def measured(runs: Iterable[Rows], *, attempts: Attempts = "latest") -> set[str]:
    """Every metric that becomes a column of the table of these runs, as long as none of them are joined."""
    return {name for rows in runs for name in _placed(rows, attempts).names()}


def joined(runs: Iterable[Rows]) -> list[Rows]:
    """Put the runs of a chain of resumptions together under the first one's id, their starts in one count."""
    by_id = {rows.run_id: rows for rows in runs}
    before, _ = links(by_id.values())
    chains: dict[str, list[tuple[int, str]]] = {}
    for run_id in by_id:
        chain = _chain(run_id, before)
        chains.setdefault(chain[0], []).append((len(chain), run_id))
    told = {first: [by_id[run_id] for _, run_id in sorted(chain)] for first, chain in chains.items()}
    return [_united(first, chain) if len(chain) > 1 else chain[0] for first, chain in told.items()]


def links(runs: Iterable[Rows]) -> tuple[dict[str, str], list[str]]:
    """Find which run resumed which other one of them.

    Returns:
        Run to the run before it, without circles and forks; and which forks are left apart, a sentence each.
    """
    continues = {rows.run_id: rows.continues for rows in runs}
    before = {run_id: prior for run_id, prior in continues.items() if prior in continues and prior != run_id}
    after: dict[str, list[str]] = {}
    for run_id, prior in before.items():
        after.setdefault(str(prior), []).append(run_id)
    forks = {prior: sorted(several) for prior, several in after.items() if len(several) > 1}
    plain = {run_id: str(prior) for run_id, prior in before.items() if prior not in forks}
    for run_id in sorted(plain):
        if _chain(run_id, plain)[0] in plain:  # it goes back to itself
            del plain[run_id]
    told = [
        f"runs {', '.join(ids)} all resumed run {prior}; they are left apart" for prior, ids in forks.items()
    ]
    return plain, told


def _chain(run_id: str, before: dict[str, str]) -> list[str]:
    """The run, and before it those that it goes back to, the first one first."""
    chain = [run_id]
    while (prior := before.get(chain[0])) is not None and prior not in chain:
        chain.insert(0, prior)
    return chain


def _united(run_id: str, runs: Sequence[Rows]) -> Rows:
    whole = Rows(run_id)
    for rows in runs:
        count = len(whole.segments)
        whole.extend(rows, {segment: count + i for i, segment in enumerate(sorted(rows.segments))})
    return whole


class _Part:
    """The rows that one run has in the table.

    Args:
        rows: The run.
        row_of: Which of its rows each event belongs to, or `_DROPPED`; of shape (events,).
        firsts: The first event of each row, of shape (rows,).
    """

    def __init__(self, rows: Rows, row_of: Places, firsts: Places) -> None:
        self.rows = rows
        self.row_of = row_of
        self.firsts = firsts
        self._cells = rows.cells()
        self._targets: dict[int, _Target] = {}

    def __len__(self) -> int:
        return len(self.firsts)

    def names(self) -> set[str]:
        """The metrics of its rows; what was measured in superseded ones alone is none of them."""
        kept = self.row_of != _DROPPED
        if bool(kept.all()):
            return set(self._cells)
        return {
            name
            for name, pieces in self._cells.items()
            if any(bool(kept[places].any()) for places, _ in pieces)
        }

    def write(self, name: str, values: Values, missing: NDArray[np.bool_]) -> None:
        """Write a metric into its part of a column."""
        for places, numbers in self._pieces(name):
            target = self._targets.get(id(places))  # metrics that were logged together share them
            if target is None:
                target = self._targets[id(places)] = _Target.of(self.row_of[places])
            values[target.rows] = numbers if target.kept is None else numbers[target.kept]
            missing[target.rows] = False

    def _pieces(self, name: str) -> list[tuple[Places, Values]]:
        """What the events say of a metric; where several speak of one row, the last one in order."""
        pieces = self._cells.get(name, [])
        if len(pieces) < 2 or len(self.row_of) == len(self):  # noqa: PLR2004  # numpy itself lets the last win
            return pieces
        places = np.concatenate([piece[0] for piece in pieces])
        order = np.argsort(places, kind="stable")
        merged = places[order], np.concatenate([piece[1] for piece in pieces])[order]
        self._cells[name] = [merged]  # which keeps it, so that no other array takes its id
        return [merged]


class _Target(NamedTuple):
    """Where some events' numbers go: the rows, and which of the events have one; None for all."""

    rows: Places | slice
    kept: NDArray[np.bool_] | None

    @classmethod
    def of(cls, rows: Places) -> _Target:
        """Find it out; rows that follow one another are a slice, which is written much sooner."""
        kept = None if rows.min(initial=0) >= 0 else rows != _DROPPED
        rows = rows if kept is None else rows[kept]
        if len(rows) and bool(np.all(rows[1:] == rows[:-1] + 1)):
            return cls(slice(int(rows[0]), int(rows[-1]) + 1), kept)
        return cls(rows, kept)


def _placed(rows: Rows, attempts: Attempts) -> _Part:
    """Find the row of each event: later logs of the same attempt at a step add to its row."""
    steps, who = rows.steps, rows.who
    phases = list(dict.fromkeys(facts.phase for facts in rows.facts))
    phase = _of_facts([phases.index(facts.phase) for facts in rows.facts], who)
    is_eval = _of_facts([facts.phase == "eval" for facts in rows.facts], who)
    segment = _of_facts([facts.segment for facts in rows.facts], who)
    order = _order(steps, is_eval, phase, segment)
    keys = [key[order] for key in (steps, phase, segment)]
    begins = _begins(*keys)
    keep = np.ones(int(begins.sum()), dtype=bool)
    if attempts == "latest":
        keep = _is_latest(rows.starts, *(key[begins] for key in keys))
    number = np.where(keep, np.cumsum(keep) - 1, _DROPPED)
    row_of = np.empty(len(steps), dtype=np.int64)
    row_of[order] = number[np.cumsum(begins) - 1]
    return _Part(rows, row_of, order[begins][keep])


def _order(steps: Places, *others: Places) -> Places:
    """Sort by step and then by the others, the first of them first; a log nearly always is sorted."""
    if bool(np.all(steps[1:] > steps[:-1])):
        return np.arange(len(steps))
    return np.lexsort((*reversed(others), steps))


def _of_facts(values: Sequence[int], who: Places) -> Places:
    return np.array(values, dtype=np.int64)[who] if values else np.empty(0, dtype=np.int64)


def _begins(*keys: Places) -> NDArray[np.bool_]:
    """Where in sorted keys another one begins."""
    begins = np.ones(len(keys[0]), dtype=bool)
    if len(begins):
        begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return begins


def _is_latest(starts: Sequence[Start], steps: Places, phases: Places, segments: Places) -> NDArray[np.bool_]:
    """Which rows led to the run's present state: a later start discards the steps beyond its own."""
    keep = np.ones(len(steps), dtype=bool)
    for segment in {int(segment) for segment in np.unique(segments)}:
        later = min((start.step for start in starts if start.segment > segment), default=None)
        if later is not None:
            keep &= (segments != segment) | (steps <= later)
    kept = np.flatnonzero(keep)
    is_last = np.roll(_begins(steps[kept], phases[kept]), -1)  # the next one is of another step or phase
    keep[kept[~is_last]] = False
    return keep


def _run_id(rows: Rows) -> str:
    return rows.run_id


def _metric(parts: Sequence[_Part], name: str) -> pd.arrays.FloatingArray:
    """A column that keeps NaN and missing apart: pandas' own constructors take the one for the other."""
    count = sum(map(len, parts))
    values, missing = np.zeros(count, dtype=np.float64), np.ones(count, dtype=bool)
    at = 0
    for part in parts:
        end = at + len(part)
        part.write(name, values[at:end], missing[at:end])
        at = end
    return pd.arrays.FloatingArray(values, missing)


def _steps(parts: Sequence[_Part], _: str) -> Places:
    return _joined_arrays([part.rows.steps[part.firsts] for part in parts], np.int64)


def _wall_times(parts: Sequence[_Part], _: str) -> Values:
    return _joined_arrays([part.rows.wall_times[part.firsts] for part in parts], np.float64)


def _counts(parts: Sequence[_Part], name: str) -> pd.arrays.IntegerArray:
    """A row's last word on a count."""
    told = [np.full(len(part), NO_COUNT, dtype=np.int64) for part in parts]
    for part, counts in zip(parts, told, strict=True):
        count = part.rows.tokens[name]
        known = (count != NO_COUNT) & (part.row_of != _DROPPED)
        counts[part.row_of[known]] = count[known]
    numbers = _joined_arrays(told, np.int64)
    return pd.arrays.IntegerArray(np.where(numbers == NO_COUNT, 0, numbers), numbers == NO_COUNT)


def _whole_fact(parts: Sequence[_Part], name: str) -> pd.arrays.IntegerArray:
    known = [[getattr(facts, name) for facts in part.rows.facts] for part in parts]
    who = [part.rows.who[part.firsts] for part in parts]
    values = [_of_facts([v or 0 for v in each], w) for each, w in zip(known, who, strict=True)]
    missing = [_of_facts([v is None for v in each], w) for each, w in zip(known, who, strict=True)]
    return pd.arrays.IntegerArray(_joined_arrays(values, np.int64), _joined_arrays(missing, np.bool_))


def _text_fact(parts: Sequence[_Part], name: str) -> Any:  # noqa: ANN401  # an array of the dtype string
    known = [getattr(facts, name) for part in parts for facts in part.rows.facts]
    ends = np.cumsum([0, *(len(part.rows.facts) for part in parts)])
    who = [part.rows.who[part.firsts] + end for part, end in zip(parts, ends, strict=False)]
    return _texts(known, _joined_arrays(who, np.int64))


def _run_ids(parts: Sequence[_Part], _: str) -> Any:  # noqa: ANN401  # the same
    return _texts(
        [part.rows.run_id for part in parts], np.repeat(np.arange(len(parts)), list(map(len, parts)))
    )


def _texts(known: list[str | None], places: Places) -> Any:  # noqa: ANN401  # the same
    return pd.array(known, dtype=pd.StringDtype()).take(places)


def _joined_arrays(arrays: list[NDArray[Any]], dtype: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *arrays]).astype(dtype, copy=False)


_MAKERS: Final[dict[str, Callable[[Sequence[_Part], str], Any]]] = {
    "step": _steps,
    "phase": _text_fact,
    "tokens_in": _counts,
    "tokens_out": _counts,
    "wall_time": _wall_times,
    "seed": _whole_fact,
    "run_id": _run_ids,
    "git_sha": _text_fact,
    SEGMENT.name: _whole_fact,
}
