"""Which values of many histories belong to one moment?"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rldk_mlflow.columns import Real, Whole

_AT_ONCE: Final = 2048


class Lane(NamedTuple):
    """A history in which no moment comes twice, in the order of its moments.

    Attributes:
        timestamps: Milliseconds since the epoch.
        steps: Optimizer steps.
        rank: What tells moments of one time and step apart, for each point or for all of them.
        values: The numbers.
    """

    timestamps: Whole
    steps: Whole
    rank: int | Whole
    values: Real


class Moment(NamedTuple):
    """What was logged at one time, with one step and rank: the numbers of these lanes."""

    timestamp: int
    step: int
    rank: int
    lanes: Sequence[int]
    values: Sequence[float]


class _Table(NamedTuple):
    """All moments in order, and for each lane where its points are among them."""

    timestamps: Whole
    steps: Whole
    ranks: Whole
    places: list[Whole]


def joined(lanes: Sequence[Lane]) -> Iterator[Moment]:
    """Put the lanes together by the moments of their points, in order; a moment's lanes stay in theirs."""
    if not lanes:
        return
    table = _table(lanes)
    edges = np.arange(0, len(table.steps) + _AT_ONCE, _AT_ONCE)
    cuts = _cuts(table.places, edges)
    for block, (start, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        parts = [
            (lane.values[cut[block] : cut[block + 1]], place[cut[block] : cut[block + 1]])
            for lane, place, cut in zip(lanes, table.places, cuts, strict=True)
        ]
        heads = zip(
            table.timestamps[start:end].tolist(),
            table.steps[start:end].tolist(),
            table.ranks[start:end].tolist(),
            _rows(parts, start, len(table.steps[start:end])),
            strict=True,
        )
        for timestamp, step, rank, (which, values) in heads:
            yield Moment(timestamp, step, rank, which, values)


def _cuts(places: list[Whole], edges: Whole) -> list[list[int]]:
    """For each lane the points at which a block begins; lanes of one group are looked up once."""
    known: dict[int, list[int]] = {}
    for place in places:
        if id(place) not in known:
            known[id(place)] = np.searchsorted(place, edges).tolist()
    return [known[id(place)] for place in places]


def _rows(
    parts: list[tuple[Real, Whole]], start: int, height: int
) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
    """Give for each moment of a block its lanes and their values."""
    if all(len(values) == height for values, _ in parts):
        rows: list[list[float]] = np.column_stack([values for values, _ in parts]).tolist()
        return zip(repeat(range(len(parts))), rows, strict=False)
    return _ragged(parts, start, height)


def _ragged(
    parts: list[tuple[Real, Whole]], start: int, height: int
) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
    places = np.concatenate([place for _, place in parts]) - start
    order = np.argsort(places, kind="stable")
    values: list[float] = np.concatenate([values for values, _ in parts])[order].tolist()
    sizes = [len(values) for values, _ in parts]
    which: list[int] = np.repeat(np.arange(len(parts)), sizes)[order].tolist()
    ends = np.cumsum(np.bincount(places, minlength=height)).tolist()
    begin = 0
    for end in ends:
        yield which[begin:end], values[begin:end]
        begin = end


def _table(lanes: Sequence[Lane]) -> _Table:
    groups: dict[tuple[int, int, int], int] = {}
    members: list[Lane] = []
    numbers: list[int] = []
    for lane in lanes:
        mark = (
            id(lane.timestamps),
            id(lane.steps),
            lane.rank if isinstance(lane.rank, int) else id(lane.rank),
        )
        if mark not in groups:
            groups[mark] = len(members)
            members.append(lane)
        numbers.append(groups[mark])
    timestamps = np.concatenate([lane.timestamps for lane in members])
    steps = np.concatenate([lane.steps for lane in members])
    ranks = np.concatenate([np.broadcast_to(np.int64(lane.rank), lane.steps.shape) for lane in members])
    if len(members) == 1:
        return _Table(timestamps, steps, ranks, [np.arange(len(steps))] * len(lanes))
    order = np.lexsort((ranks, steps, timestamps))
    timestamps, steps, ranks = timestamps[order], steps[order], ranks[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (np.diff(timestamps) != 0) | (np.diff(steps) != 0) | (np.diff(ranks) != 0)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(is_new) - 1
    parts = np.split(place, np.cumsum([len(lane.steps) for lane in members])[:-1])
    return _Table(timestamps[is_new], steps[is_new], ranks[is_new], [parts[number] for number in numbers])
