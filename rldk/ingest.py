"""From any source to one table: find the adapter, read, frame."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from rldk import bridge
from rldk.errors import SourceError, UnknownSourceError
from rldk.frame import training_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from rldk.bridge import Adapter
    from rldk.event import Event

_logger = logging.getLogger(__name__)

_NAMES_SHOWN: Final = 5


def ingest_runs(
    source: str | Path,
    *,
    adapter_hint: str | None = None,
    attempts: Literal["latest", "all"] = "latest",
    join: bool = False,
) -> pd.DataFrame:
    """Read a run from wherever it is kept into the TrainingMetrics table.

    Args:
        source: A journal (`.jsonl`) or a folder of journals; a W&B offline run folder or its
            `.wandb` file; an MLflow run as `runs:/ID`, as its page's URL, or as
            `TRACKING_URI#runs/ID` (`sqlite:////data/mlflow.db#runs/ID`).
        adapter_hint: Name of the adapter to use, instead of asking each whether it recognises the source.
        attempts: Where a resumed run repeats steps, whether to keep the `latest` attempt of each or `all`.
        join: Count a run that resumed another one of the source under a new id as that one.

    Returns:
        One row for each step and phase; see `rldk.frame.training_metrics`. What could not be read
        is logged, and told in `df.attrs["problems"]`.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No adapter has the name of the hint.
        SourceError: The source cannot be read.
        SettingError: `attempts` is neither.
    """
    is_home = str(source).startswith("~")
    adapter = find_adapter(str(Path(source).expanduser() if is_home else source), adapter_hint)
    table = training_metrics(_recorded(adapter.events(), str(source)), attempts=attempts, join=join)
    table.attrs["adapter"] = adapter.name
    table.attrs["problems"] = list(adapter.problems)
    for problem in adapter.problems:
        _logger.warning("%s", problem)
    return table


def _recorded(events: Iterable[Event], source: str) -> Iterator[Event]:
    """Leave out what others than RLDK have logged beside it.

    Raises:
        SourceError: There is nothing else.
    """
    others: set[str] = set()
    is_ours = False
    for event in events:
        if event.is_raw:
            others |= event.metrics.keys()
        else:
            is_ours = True
            yield event
    if not is_ours:
        names = ", ".join(sorted(others)[:_NAMES_SHOWN]) or "no metrics"
        reason = f"RLDK recorded nothing in it; it holds {len(others)} metrics of others ({names})"
        raise SourceError(source, reason, "give a run that was recorded with RLDK")


def find_adapter(source: str, hint: str | None = None) -> Adapter:
    """Find who reads a source: the adapter that is named, else the first that recognises it.

    Raises:
        UnknownSourceError: No adapter recognises the source.
        UnknownBridgeError: No adapter has the name of the hint.
    """
    if hint is not None:
        return bridge.adapter(hint)(source)
    installed = bridge.adapters()
    for cls in installed.values():
        adapter = cls(source)
        if adapter.can_handle():
            return adapter
    raise UnknownSourceError(source, installed)
