"""Can the MLflow that is configured be reached and written? Tried with a run that is deleted again."""

from __future__ import annotations

import os
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psutil

from rldk.bridge import Probed
from rldk_mlflow import client

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPERIMENT: Final = "rldk-doctor"
"""Where the run is made that shows whether runs can be made."""

_TAG: Final = "rldk.doctor"
_SURELY_OVER_S: Final = 900.0  # a probe is given ten minutes at most
_OURS: Final = f"attributes.run_name = '{EXPERIMENT}'"
_OTHERS: Final = f"attributes.run_name != '{EXPERIMENT}'"
_AT_WORK: Final = f"{_OURS} AND attributes.status = 'RUNNING'"
_ACCESS: Final = frozenset({401, 403})
_FILE: Final = "rldk-doctor.txt"
_DELETED: Final = "mlflow gc forgets it for good"


def probe() -> Iterator[Probed]:
    """Tell where MLflow is configured to write, whether someone answers there, and whether it takes a run.

    What a probe that was killed has left is deleted by the next one.
    """
    if find_spec("mlflow") is None:
        told, remedy = "MLflow is not installed", "pip install 'rldk[mlflow]' to record there"
        yield Probed(what="library", state="note", told=told, remedy=remedy)
        return
    uri = client.configured_uri(must=True)
    whence = "MLFLOW_TRACKING_URI" if os.environ.get("MLFLOW_TRACKING_URI") else "by default"
    yield Probed(what="tracking URI", state="ok", told=f"{client.without_secrets(uri)} ({whence})")
    path = client.local_path(uri)
    if path is not None and not path.exists():
        yield _to_be_made(path)
        return
    if path is not None and not _can_write(path):
        yield Probed(
            what="write", state="problem", told=f"{path} is read-only", remedy="give this user write access"
        )
        return
    yield from _asked(uri)


def _to_be_made(path: Path) -> Probed:
    there = path.absolute().parent
    while not there.is_dir() and there != there.parent:
        there = there.parent
    if _can_write(there):
        return Probed(what="write", state="ok", told=f"{path} is made by the first run; {there} is writable")
    remedy = "give this user write access, or set MLFLOW_TRACKING_URI"
    return Probed(
        what="write", state="problem", told=f"{path} cannot be made: {there} is read-only", remedy=remedy
    )


def _can_write(path: Path) -> bool:
    """Whether a folder takes a file, or a file takes more; neither is changed."""
    try:
        with TemporaryFile(dir=path) if path.is_dir() else path.open("r+b"):
            return True
    except OSError:
        return False


def _asked(uri: str) -> Iterator[Probed]:
    with client.leash() as leash:
        failures = (client.library().exceptions.MlflowException, OSError)
        try:
            mlflow = client.connect(uri)
            mlflow.search_experiments(max_results=1)
        except failures as error:
            yield _failed("reach", error, leash.status, "start it, or set MLFLOW_TRACKING_URI to where it is")
            return
        yield Probed(what="reach", state="ok", told="it answers")
        try:
            yield from _written(mlflow)
        except failures as error:
            yield _failed("write", error, leash.status, "let this user make runs there; see the server's log")


def _failed(what: str, error: Exception, status: int | None, remedy: str) -> Probed:
    if status in _ACCESS:
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    said = client.without_secrets(" ".join(str(error).split()))
    return Probed(what=what, state="problem", told=said[:300] or type(error).__name__, remedy=remedy)


class _Place(NamedTuple):
    """The experiment of a probe.

    Attributes:
        number: Its id.
        is_ours: Whether a probe has made it, and may delete it.
        was_there: Whether it was active before this probe.
        swept: How many runs of probes that were killed this one has deleted.
    """

    number: str
    is_ours: bool
    was_there: bool
    swept: int = 0


def _written(mlflow: Any) -> Iterator[Probed]:  # noqa: ANN401  # MlflowClient is not typed
    """Make a run with a number and a file, and delete all of it, the experiment too if it was not there."""
    place = _place(mlflow)
    here = f"{socket.gethostname()} {os.getpid()}"
    run = mlflow.create_run(place.number, run_name=EXPERIMENT, tags={_TAG: here})
    try:
        mlflow.log_metric(run.info.run_id, "rldk/doctor", 1.0, synchronous=True)
        yield Probed(
            what="write", state="ok", told=f"it took a run with a number, in the experiment {EXPERIMENT}"
        )
        yield _stored(mlflow, run)
    finally:
        deleted = _deleted(mlflow, run, place)
    yield deleted


def _place(mlflow: Any) -> _Place:  # noqa: ANN401  # the same
    there = mlflow.get_experiment_by_name(EXPERIMENT)
    if there is None:
        number = mlflow.create_experiment(EXPERIMENT, tags={_TAG: "made by rldk doctor"})
        return _Place(number, is_ours=True, was_there=False)
    if there.lifecycle_stage != "active":
        mlflow.restore_experiment(there.experiment_id)
        return _Place(there.experiment_id, is_ours=True, was_there=False)
    is_ours = _TAG in there.tags
    # Those that have ended are deleted with the experiment; to restore it has brought them back, however many
    left = mlflow.search_runs([there.experiment_id], _AT_WORK if is_ours else _OURS)
    over = [run for run in left if _is_over(run)]
    for run in over:
        mlflow.set_terminated(run.info.run_id, "KILLED")
        mlflow.delete_run(run.info.run_id)
    return _Place(there.experiment_id, is_ours, was_there=True, swept=len(over))


def _is_over(run: Any) -> bool:  # noqa: ANN401  # the same
    """Whether no probe is at work on a run: it has ended, is too old, or its process here is gone."""
    host, _, number = run.data.tags.get(_TAG, "").rpartition(" ")
    is_gone = host == socket.gethostname() and number.isdecimal() and not psutil.pid_exists(int(number))
    is_old = time.time() - run.info.start_time / 1000 > _SURELY_OVER_S
    return run.info.status != "RUNNING" or is_old or is_gone


def _deleted(mlflow: Any, run: Any, place: _Place) -> Probed:  # noqa: ANN401  # the same
    number = run.info.run_id
    try:
        mlflow.set_terminated(number)  # it shows that nobody is at work on it, should somebody restore it
        mlflow.delete_run(number)
        if place.is_ours and not _is_needed(mlflow, place):
            mlflow.delete_experiment(place.number)
    except (client.library().exceptions.MlflowException, OSError) as error:
        said = client.without_secrets(" ".join(str(error).split()))[:300]
        remedy = f"run: mlflow runs delete --run-id {number}"
        told = f"what was made could not be deleted: {said}"
        return Probed(what="deletion", state="warning", told=told, remedy=remedy)
    left = f", and {place.swept} that earlier probes had left" if place.swept else ""
    return Probed(what="deletion", state="ok", told=f"the run is deleted again{left} ({_DELETED})")


def _is_needed(mlflow: Any, place: _Place) -> bool:  # noqa: ANN401  # the same
    """Whether another probe is at work in the experiment, or somebody has put a run of their own there."""
    if place.was_there and mlflow.search_runs([place.number], _OTHERS, max_results=1):
        return True
    return not all(_is_over(run) for run in mlflow.search_runs([place.number], _AT_WORK))


def _stored(mlflow: Any, run: Any) -> Probed:  # noqa: ANN401  # the same
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        with TemporaryDirectory() as folder:
            path = Path(folder, _FILE)
            path.write_text("rldk doctor\n")
            mlflow.log_artifact(run.info.run_id, str(path))
        store = get_artifact_repository(run.info.artifact_uri)
        is_there = any(each.path == _FILE for each in store.list_artifacts())
        store.delete_artifacts(_FILE)
    except Exception as error:  # noqa: BLE001  # each store's library has exceptions of its own
        said = client.without_secrets(" ".join(str(error).split()))[:300]
        remedy = "reports would not arrive: check the store's credentials and --artifacts-destination"
        return Probed(what="files", state="warning", told=f"no file can be stored: {said}", remedy=remedy)
    if not is_there:
        remedy = "see the store's log"
        return Probed(
            what="files", state="warning", told="a file that was stored is not found", remedy=remedy
        )
    return Probed(what="files", state="ok", told="a file was stored, found, and deleted again")
