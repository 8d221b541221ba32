"""How do the events of adapters become the rows of runs: RLDK's own, or else what others have logged."""

from __future__ import annotations

from collections import Counter
from itertools import chain, count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from rldk import catalog
from rldk.canonical import Renamer, advice
from rldk.errors import MissingDependencyError, SourceError
from rldk.event import utf8
from rldk.frame import links, table
from rldk.normalize import units
from rldk.redact import logger
from rldk.rows import Rows
from rldk.schema import UNITS

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

    import pandas as pd

    from rldk.bridge import Adapter
    from rldk.event import Event
    from rldk.frame import Attempts

_logger = logger(__name__)

_NO_MAP: Final[Mapping[str, str]] = MappingProxyType({})


class Reading:
    """What is read of several sources together; memory holds the rows alone.

    What RLDK has recorded stays as it was. What others have logged gets its names by the catalog; where
    RLDK recorded a run, what others logged beside it in the same source is left out.

    Args:
        field_map: Raw name to canonical name, for what the catalog does not know.

    Attributes:
        problems: What could not be read, a sentence each.
        failures: Why single sources could not be read at all.
        raw: The ids, as they came, of the runs that RLDK did not record.
        names: The ids that runs of the next source have in the table, where that is settled already.
    """

    def __init__(self, field_map: Mapping[str, str] | None = None) -> None:
        self.problems: list[str] = []
        self.failures: list[SourceError | MissingDependencyError] = []
        self.raw: list[str] = []
        self.names: Mapping[str, str] = _NO_MAP
        self._map = field_map or _NO_MAP
        self._adapters: list[str] = []
        self._waiting: list[_Run] = []
        self._runs: dict[str, Rows] = {}
        self._trainers: dict[str, str] = {}
        self._unknown: Counter[str] = Counter()

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
                    run = runs.get(last) or runs.setdefault(last, _Run(utf8(last), self._map))
                run.add(event)
        except (SourceError, MissingDependencyError) as error:
            self.failures.append(error)
            self.problems.append(str(error))
            return False
        self.problems += adapter.problems
        for _, run in sorted(runs.items()):
            run.due = self.names.get(run.run_id)
            self.raw += [run.run_id] if run.is_raw else []
            self._waiting.append(run)
        return True

    @property
    def runs(self) -> dict[str, Rows]:
        """Each run's rows, by the id that it has in the table."""
        self._settle()
        return self._runs

    @property
    def trainers(self) -> dict[str, str]:
        """Each run's trainer, where it is known."""
        self._settle()
        return self._trainers

    @property
    def unknown(self) -> Counter[str]:
        """How often each name came that is not in the catalog."""
        self._settle()
        return self._unknown

    def _settle(self) -> None:
        """Give the runs their ids: parts of one that RLDK recorded are one, those of others keep apart."""
        waiting, self._waiting = self._waiting, []
        taken = {*self._runs, *(run.run_id for run in waiting)}
        for run in sorted(waiting, key=_is_of_others):
            rows = run.finished()
            rows.run_id = run.due or run.run_id
            if run.due is None and run.is_raw and run.run_id in self._runs:
                rows.run_id = free_name(run.run_id, taken)
                self.problems.append(called_alike(run.run_id, rows.run_id))
            taken.add(rows.run_id)
            self._unknown += run.unknown()
            if run.trainer:
                self._trainers[rows.run_id] = run.trainer
            if run.is_raw and (repeats := rows.repeats()):
                what = f"{repeats} logs have the step and the names of another one, of which the last is kept"
                self.problems.append(f"run {rows.run_id}: {what}")
            if rows.run_id in self._runs:
                self._runs[rows.run_id].extend(rows)
            else:
                self._runs[rows.run_id] = rows

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
        if join:
            self.problems += links(self.runs.values())[1]
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


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or else the one with the least number behind it, from 2 on, that is not taken."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def called_alike(name: str, other: str) -> str:
    """Say that a run of others has the id of another one."""
    return f"another run is called {name} too; its rows have run_id {other}"


def _is_of_others(run: _Run) -> bool:
    return run.is_raw


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
        self.run_id = run_id
        self.is_raw = True
        self.due: str | None = None
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
        elif event.kind == "end":  # trackers tell the end of RLDK's own runs, too
            self._own.add(event)

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
