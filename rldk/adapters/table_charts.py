"""How does a chart that W&B's page exports become events: a column for each run and metric."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.adapters.raw import Skips, whole
from rldk.adapters.table_cells import Runs, numbers_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rldk.event import Event


class Pair(NamedTuple):
    """What one column of a W&B chart shows."""

    place: int
    run: str
    metric: str


_BETWEEN: Final = " - "
_BOUNDS: Final = ("__MIN", "__MAX")


def chart(header: Sequence[str]) -> list[Pair] | None:
    """Cut the columns of a W&B chart, called `<run> - <metric>`; None where it is none.

    Either name may hold the dash: it is cut so that as many columns as can be show the same metric.
    """
    shown = [(place, name) for place, name in enumerate(header) if place and not name.endswith(_BOUNDS)]
    if not shown or not all(_BETWEEN in name for _, name in shown):
        return None
    cuts = {name: _cuts(name) for _, name in shown}
    votes = Counter(metric for _, name in shown for _, metric in cuts[name])
    pairs = [
        Pair(place, *max(cuts[name], key=lambda cut: (votes[cut[1]], -len(cut[1])))) for place, name in shown
    ]
    return _told_apart(pairs)


def _cuts(name: str) -> list[tuple[str, str]]:
    parts = name.split(_BETWEEN, _MOST_DASHES)
    return [(_BETWEEN.join(parts[:i]), _BETWEEN.join(parts[i:])) for i in range(1, len(parts))]


_MOST_DASHES: Final = 16


def _told_apart(pairs: list[Pair]) -> list[Pair]:
    """Number the runs that are called the same."""
    seen: Counter[tuple[str, str]] = Counter()
    apart: list[Pair] = []
    for pair in pairs:
        seen[pair.run, pair.metric] += 1
        count = seen[pair.run, pair.metric]
        apart.append(pair if count == 1 else pair._replace(run=f"{pair.run} ({count})"))
    return apart


class WandbChart:
    """A chart that W&B's page exports: a column for each run and metric, and two for its bounds."""

    def __init__(self, axis: str, pairs: list[Pair], runs: Runs, skips: Skips) -> None:
        self._runs = runs
        self._skips = skips
        self._by_run: dict[str, list[tuple[int, str]]] = {}
        for pair in pairs:
            self._by_run.setdefault(pair.run, []).append((pair.place, pair.metric))
        self.texts: set[int] = set()
        sample = "a sample of about 1,500 points a line, and the mean of several where __MIN and __MAX differ"
        self.notes = [f"a chart of W&B over {axis!r}: W&B exports {sample}"]

    def events(self, rows: Iterable[tuple[int, list[Any]]]) -> Iterator[Event]:
        """Give an event for each row and run that has a point in it."""
        for place, row in rows:
            step = whole(row[0])
            if step is None:
                self._skips.place("rows have no whole number on the x-axis and", f"line {place}", "no step")
                continue
            for run_id, columns in self._by_run.items():
                metrics = numbers_in(row, columns, (), self._skips)
                if metrics:
                    yield from self._runs.get(run_id).log(step, metrics)
