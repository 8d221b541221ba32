"""What is asked of a tracking store, whatever it is, and what it tells of a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rldk_mlflow.names import unescape
from rldk_mlflow.points import NONFINITE_COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rldk_mlflow.history import Series

ENDED: Final = frozenset({"FINISHED", "FAILED", "KILLED"})
ACTIVE: Final = "active"

_INT64: Final = range(-(2**63), 2**63)


class Info(NamedTuple):
    """A run, as MLflow's client gives it; times are in milliseconds since the epoch."""

    run_id: str
    status: str
    start_time: int | None
    end_time: int | None
    lifecycle_stage: str
    experiment_id: str = ""
    artifact_uri: str = ""


class Data(NamedTuple):
    """What was logged to a run: the highest step of each metric stands for its history."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: Mapping[str, int] = {}


class Run(NamedTuple):
    """What a store tells of a run."""

    info: Info
    data: Data

    def histories(self) -> list[str]:
        """The metrics whose histories are facts of the run."""
        return [key for key in sorted(self.data.metrics) if unescape(key) != NONFINITE_COUNT]


class Experiment(NamedTuple):
    """An experiment, as MLflow's client gives it."""

    experiment_id: str
    name: str
    lifecycle_stage: str


class StoreError(Exception):
    """A store cannot be read."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class Store(Protocol):
    """A place where MLflow keeps runs; all of it may raise `StoreError`, `OSError` or MLflow's error."""

    def run(self, run_id: str) -> Run:
        """Tell of a run."""

    def experiment(self, experiment_id: str) -> Experiment | None:
        """Find an experiment by its id."""

    def named(self, name: str) -> Experiment | None:
        """Find an experiment by its name."""

    def run_ids(self, experiment_id: str | None) -> list[str]:
        """Name the active runs of an experiment, or of all active ones, in the order of their start."""

    def series(self, run: Run) -> list[Series]:
        """Read the histories of a run, in the order of its keys."""


def whole(value: object) -> int | None:
    """A whole number of 64 bits, what is behind the point cut off; None for anything else."""
    if isinstance(value, int):
        exact = int(value)
    else:
        try:
            number = float(value) if isinstance(value, float | str) else math.nan
        except ValueError:
            return None
        if not math.isfinite(number):
            return None
        exact = int(number)
    return exact if exact in _INT64 else None
