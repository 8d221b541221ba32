"""How do the events of adapters become the rows of runs: RLDK's own, or else what others have logged."""

from __future__ import annotations

import logging
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from rldk import catalog
from rldk.canonical import Renamer, advice
from rldk.errors import SourceError
from rldk.frame import table
from rldk.normalize import units
from rldk.rows import Rows
from rldk.schema import UNITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pandas as pd

    from rldk.bridge import Adapter
    from rldk.event import Event
    from rldk.frame import Attempts

_logger = logging.getLogger(__name__)

_NO_MAP: Final[Mapping[str, str]] = MappingProxyType({})


class Reading:
    """What is read of several sources together; memory holds the rows alone.

    What RLDK has recorded stays as it was. What others have logged gets its names by the catalog; where
    RLDK recorded a run, what others logged beside it is left out.

    Args:
        field_map: Raw name to canonical name, for what the catalog does not know.

    Attributes:
        runs: Each run's rows, by its id.
        trainers: Each run's trainer, where it is known.
        unknown: How often each name came that is not in the catalog.
        problems: What could not be read, a sentence each.
        failures: Why single runs could not be read at all.
        seen: How many runs of each id came; another one of others' gets a name of its own.
        raw: The ids, as they came, of the runs that RLDK did not record.
    """

    def __init__(self, field_map: Mapping[str, str] | None = None) -> None:
        self.runs: dict[str, Rows] = {}
        self.trainers: dict[str, str] = {}
        self.unknown: Counter[str] = Counter()
        self.problems: list[str] = []
        self.failures: list[SourceError] = []
        self._map = field_map or _NO_MAP
        self._adapters: list[str] = []
        self.seen: Counter[str] = Counter()
        self.raw: list[str] = []

    def read(self, adapter: Adapter) -> bool:
        """Read all runs of an adapter's source; False, and a failure noted, where it cannot be read."""
        runs: dict[str, _Run] = {}
        run: _Run | None = None
        last = ""
        self._adapters.append(adapter.name)
        try:
            for event in adapter.events():
                if event.model_info.get("run_id", "") != last or run is None:
                    last = event.run_id
                    run = runs.get(last) or runs.setdefault(last, _Run(last, self._map))
                run.add(event)
        except SourceError as error:
            self.failures.append(error)
            self.problems.append(str(error))
            return False
        self.problems += adapter.problems
        for run_id in sorted(runs):
            self._take(runs[run_id])
        return True

    def _take(self, run: _Run) -> None:
        """Take a run over; those of others that are called alike, such as two folders `out`, keep apart."""
        rows = run.finished()
        count = self.seen[rows.run_id] = self.seen[rows.run_id] + 1
        if run.is_raw:
            self.raw.append(rows.run_id)
        if count > 1 and run.is_raw:
            name = f"{rows.run_id}-{count}"
            self.problems.append(f"another run is called {rows.run_id} too; its rows have run_id {name}")
            rows.run_id = name
        self.unknown += run.unknown()
        if run.trainer:
            self.trainers[rows.run_id] = run.trainer
        if rows.run_id in self.runs:
            self.runs[rows.run_id].extend(rows)
        else:
            self.runs[rows.run_id] = rows

    def table(
        self, *, attempts: Attempts = "latest", join: bool = False, names: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Build the table of all that was read, and log the problems; see `rldk.frame.table`.

        `df.attrs` tells `adapter`, `trainers` (by run), `units` (by column), `unknown` (names that are
        not in the catalog, and how often they came) and `problems`.

        Raises:
            SettingError: `attempts` is neither.
        """
        told = table(self.runs.values(), attempts=attempts, join=join, names=names)
        told.attrs |= self._attrs(told.columns)
        for problem in told.attrs["problems"]:
            _logger.warning("%s", problem)
        return told

    def _attrs(self, columns: Iterable[str]) -> dict[str, Any]:
        said = advice(self.unknown)
        return {
            "adapter": ", ".join(dict.fromkeys(self._adapters)),
            "trainers": self.trainers,
            "units": units_of(columns, self.trainers.values()),
            "unknown": dict(self.unknown),
            "problems": self.problems + ([said] if said else []),
        }


def units_of(columns: Iterable[str], trainers: Iterable[str]) -> dict[str, str]:
    """Give the unit of each column that has one, for runs of these trainers."""
    known: dict[str, str] = {}
    for trainer in sorted(set(trainers)):
        known |= units(trainer.removesuffix("Trainer"))
    told = known | UNITS
    return {name: unit for name in columns if (unit := told.get(name) or _unit_of_family(name, told))}


def _unit_of_family(name: str, told: Mapping[str, str]) -> str:
    """The unit of a metric whose name in the catalog has a part that may be any text."""
    metric = catalog.named(name)
    return metric.unit if metric is not None and metric.name in told else ""


class _Run:
    """One run of a source: the rows of RLDK's own events, and those of others' as long as there are none."""

    def __init__(self, run_id: str, field_map: Mapping[str, str]) -> None:
        self.is_raw = True
        self._own = Rows(run_id)
        self._theirs = Rows(run_id)
        self._renamer = Renamer(field_map)

    def add(self, event: Event) -> None:
        if event.model_info.get("raw") is not True:
            self.is_raw = False
            self._own.add(event)
        elif not self._own:
            for renamed in self._renamer.take(event):
                self._theirs.add(renamed)

    def finished(self) -> Rows:
        """Give the run's rows, once all its events are added."""
        if self._own:
            return self._own
        for renamed in self._renamer.rest():
            self._theirs.add(renamed)
        self._theirs.extend(self._own)
        return self._theirs

    @property
    def trainer(self) -> str:
        """The trainer that its events name, else the one that it is taken for; empty for none."""
        return self._own.trainer or ("" if self._own else self._theirs.trainer or self._renamer.trainer)

    def unknown(self) -> Counter[str]:
        """How often each name came that nobody knows, of those that are kept."""
        return Counter() if self._own else self._renamer.unknown()
