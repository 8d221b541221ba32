"""From any source to one table: find the adapter, read, frame."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from rldk import bridge
from rldk.canonical import Names
from rldk.errors import SourceError, UnknownSourceError
from rldk.frame import training_metrics
from rldk.normalize import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd

    from rldk.bridge import Adapter
    from rldk.event import Event

_logger = logging.getLogger(__name__)

_LAST: Final = ("mlflow", "wandb", "trl", "mlflow_folder", "trainer_state", "tensorboard", "jsonl", "table")
_UNITS: Final = {"tokens_in": "tokens", "tokens_out": "tokens", "wall_time": "s", "step": "optimizer steps"}


def ingest_runs(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = None,
    attempts: Literal["latest", "all"] = "latest",
    join: bool = False,
    field_map: Mapping[str, str] | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> pd.DataFrame:
    """Read runs from wherever they are kept into the TrainingMetrics table.

    What RLDK has recorded comes back as it was. What others have logged gets its names by the catalog,
    for the trainer whose keys they are; where RLDK recorded a run, what others logged beside it is left out.

    Args:
        source: A journal (`.jsonl`) or a folder of journals; `trainer_state.json`, a checkpoint or an output
            folder with some; a W&B run folder, its `.wandb` file, a folder of such folders, or
            `wandb://ENTITY/PROJECT/ID`; an MLflow run as `runs:/ID`, as its page's URL, or as
            `TRACKING_URI#runs/ID` (`sqlite:////data/mlflow.db#runs/ID`), or a whole experiment as
            `TRACKING_URI#experiments/NAME`. Or several of these.
        adapter_hint: Name of the adapter to use, instead of asking each whether it recognises the source.
        attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt of each or `all`.
        join: Count a run that resumed another one of the source under a new id as that one.
        field_map: Raw name to canonical name, for what the catalog does not know.
        watch: Called before each run with its source, its number from 0, and how many there are.

    Returns:
        One row for each run, step and phase; see `rldk.frame.training_metrics`. `df.attrs` tells `adapter`,
        `trainers` (by run), `units` (by column), `unknown` (names that are not in the catalog, and how
        often they came) and `problems` (what could not be read, a sentence each, which are logged too).

    Raises:
        UnknownSourceError: No adapter recognises a source.
        UnknownBridgeError: No adapter has the name of the hint.
        SourceError: Nothing of the sources can be read.
        SettingError: `attempts` is neither.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    reading = _Reading(field_map, watch)
    for each in sources:
        reading.read(_expanded(each), adapter_hint)
    if not reading.events and reading.failures:
        raise reading.failures[0]
    table = training_metrics(reading.events, attempts=attempts, join=join)
    table.attrs |= reading.attrs(table.columns)
    for problem in table.attrs["problems"]:
        _logger.warning("%s", problem)
    return table


class _Reading:
    """What is read of all sources together."""

    def __init__(self, field_map: Mapping[str, str] | None, watch: Callable[[str, int, int], None]) -> None:
        self.events: list[Event] = []
        self.failures: list[SourceError] = []
        self._names = Names(field_map)
        self._seen: Counter[str] = Counter()
        self._watch = watch
        self._adapters: list[str] = []
        self._problems: list[str] = []

    def read(self, source: str, hint: str | None) -> None:
        """Read each run of a source; one of many that cannot be read stops no other.

        Raises:
            SourceError: The source as a whole cannot be read.
        """
        adapter = find_adapter(source, hint)
        self._adapters.append(adapter.name)
        runs = adapter.runs()
        self._problems += adapter.problems
        for number, run in enumerate(runs):
            self._watch(run, number, len(runs))
            self._read_run(type(adapter)(run))

    def _read_run(self, adapter: Adapter) -> None:
        try:
            events = list(adapter.events())
        except SourceError as error:
            self.failures.append(error)
            self._problems.append(str(error))
            return
        self._problems += adapter.problems
        for run_id, some in groupby(sorted(events, key=_run_id), key=_run_id):
            self.events += self._meant(self._apart(run_id, list(some)))

    def _apart(self, run_id: str, events: list[Event]) -> list[Event]:
        """Have runs of others that are called alike, such as two folders `out`, keep apart."""
        number = self._seen[run_id] = self._seen[run_id] + 1
        if number == 1 or not all(event.is_raw for event in events):
            return events
        other = f"{run_id}-{number}"
        self._problems.append(f"another run is called {run_id} too; its rows have run_id {other}")
        return [msgspec.structs.replace(e, model_info=e.model_info | {"run_id": other}) for e in events]

    def _meant(self, events: list[Event]) -> Iterable[Event]:
        """What RLDK has recorded of a run, or else what others have, under canonical names."""
        own = [event for event in events if not event.is_raw]
        if any(event.kind == "metrics" for event in own):
            return own
        return self._names.canonical(events)

    def attrs(self, columns: Iterable[str]) -> dict[str, Any]:
        """What the table's `attrs` tell."""
        advice = self._names.advice()
        trainers = self._trainers()
        return {
            "adapter": ", ".join(dict.fromkeys(self._adapters)),
            "trainers": trainers,
            "units": _units(set(columns), set(trainers.values())),
            "unknown": dict(self._names.unknown),
            "problems": self._problems + ([advice] if advice else []),
        }

    def _trainers(self) -> dict[str, str]:
        told = {e.run_id: e.model_info["trainer"] for e in self.events if "trainer" in e.model_info}
        return {run: trainer for run, trainer in (self._names.trainers | told).items() if trainer}


def _units(columns: set[str], trainers: set[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for trainer in sorted(trainers):
        known |= units(trainer)
    return {name: unit for name, unit in (known | _UNITS).items() if name in columns}


def _run_id(event: Event) -> str:
    return event.run_id


def _turn(name: str) -> tuple[int, str]:
    """Adapters of third parties are asked first, and those that would read nearly anything last."""
    return _LAST.index(name) if name in _LAST else -1, name


def _expanded(source: str | Path) -> str:
    is_home = str(source).startswith("~")
    return str(Path(source).expanduser() if is_home else source)


def find_adapter(source: str, hint: str | None = None) -> Adapter:
    """Find who reads a source: the adapter that is named, else the first that recognises it.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No adapter has the name of the hint.
    """
    if hint is not None:
        return bridge.adapter(hint)(source)
    installed = bridge.adapters()
    for name in sorted(installed, key=_turn):
        adapter = installed[name](source)
        if adapter.can_handle():
            return adapter
    raise UnknownSourceError(source, installed)
