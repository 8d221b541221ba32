"""How are runs read by asking MLflow: with its client, and histories over REST where there is a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rldk_mlflow import client, history, rest
from rldk_mlflow.history import Series
from rldk_mlflow.store import Data, Experiment, Info, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_S: Final = 60.0
PAGE_RETRIES: Final = 2
_RUNS_A_PAGE: Final = 500
_ABSENT: Final = "RESOURCE_DOES_NOT_EXIST"


class Asked:
    """A store that is asked through MLflow's client.

    Args:
        asked: The client; whoever asks holds the `leash`.
    """

    def __init__(self, asked: Any) -> None:  # noqa: ANN401  # MlflowClient is not typed
        self._asked = asked

    def run(self, run_id: str) -> Run:
        """Tell of a run."""
        run = self._asked.get_run(run_id)
        latest = run.data._metric_objs  # noqa: SLF001  # else their steps are not told
        told = Info(*(getattr(run.info, field) for field in Info._fields))
        metrics = {metric.key: int(metric.step or 0) for metric in latest}
        return Run(told, Data(dict(run.data.params), dict(run.data.tags), metrics))

    def experiment(self, experiment_id: str) -> Experiment | None:
        """Find an experiment by its id."""
        try:
            return _experiment(self._asked.get_experiment(experiment_id))
        except client.library().exceptions.MlflowException as error:
            if error.error_code != _ABSENT:
                raise
            return None

    def named(self, name: str) -> Experiment | None:
        """Find an experiment by its name."""
        found = self._asked.get_experiment_by_name(name)
        return None if found is None else _experiment(found)

    def run_ids(self, experiment_id: str | None) -> list[str]:
        """Name the active runs of an experiment, or of all active ones, in the order of their start."""
        experiments = [experiment_id] if experiment_id else [e.experiment_id for e in self._experiments()]
        return [run.info.run_id for run in self._runs(experiments)]

    def series(self, run: Run) -> list[Series]:
        """Read the histories of a run, in the order of its keys."""
        with client.leash(PAGE_S, PAGE_RETRIES):
            found = rest.histories(self._asked, run)
            return history.shared(self._own_way(run) if found is None else found)

    def _own_way(self, run: Run) -> Iterator[Series]:
        for key in run.histories():
            yield Series.of(key, self._asked.get_metric_history(run.info.run_id, key))

    def _runs(self, experiments: list[str]) -> Iterator[Any]:
        asking = {"max_results": _RUNS_A_PAGE, "order_by": ["attributes.start_time ASC"]}
        page = self._asked.search_runs(experiments, **asking)
        yield from page
        while page.token:
            page = self._asked.search_runs(experiments, page_token=page.token, **asking)
            yield from page

    def _experiments(self) -> Iterator[Any]:
        page = self._asked.search_experiments()
        yield from page
        while page.token:
            page = self._asked.search_experiments(page_token=page.token)
            yield from page


def _experiment(found: Any) -> Experiment:  # noqa: ANN401  # an entity of MLflow, which is not typed
    return Experiment(str(found.experiment_id), found.name, found.lifecycle_stage)
