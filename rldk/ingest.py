"""From any source to one table: find the adapter, read, frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk import bridge
from rldk.errors import UnknownSourceError
from rldk.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd

    from rldk.bridge import Adapter
    from rldk.frame import Attempts

_LAST: Final = ("mlflow", "wandb", "trl", "mlflow_folder", "trainer_state", "tensorboard", "jsonl", "table")


def ingest_runs(
    source: str | Path | Iterable[str | Path],
    *,
    adapter_hint: str | None = None,
    attempts: Attempts = "latest",
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
        One row for each run, step and phase; see `rldk.frame.table`. `df.attrs` tells `adapter`,
        `trainers` (by run), `units` (by column), `unknown` (names that are not in the catalog, and how
        often they came) and `problems` (what could not be read, a sentence each, which are logged too).

    Raises:
        UnknownSourceError: No adapter recognises a source.
        UnknownBridgeError: No adapter has the name of the hint.
        SourceError: Nothing of the sources can be read.
        SettingError: `attempts` is neither.
    """
    reading = Reading(field_map)
    for each in [source] if isinstance(source, str | Path) else source:
        _read(_expanded(each), adapter_hint, reading, watch)
    if not reading.runs and reading.failures:
        raise reading.failures[0]
    return reading.table(attempts=attempts, join=join)


def _read(source: str, hint: str | None, reading: Reading, watch: Callable[[str, int, int], None]) -> None:
    """Read each run of a source; one of many that cannot be read stops no other.

    Raises:
        SourceError: The source as a whole cannot be read.
    """
    adapter = find_adapter(source, hint)
    runs = adapter.runs()
    reading.problems += adapter.problems
    for number, run in enumerate(runs):
        watch(run, number, len(runs))
        reading.read(type(adapter)(run))


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
