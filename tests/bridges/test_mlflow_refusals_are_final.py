"""A run that takes nothing any more is SinkClosedError; what may pass later is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from rldk.errors import SinkClosedError
from rldk_mlflow import client
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event


@pytest.mark.usefixtures("mlflow_db")
def test_a_deleted_run_is_refused_by_name(run: Event, event: Callable[..., Event]) -> None:
    """The error says which run, and what to check."""
    sink = MLflowSink.create()
    home = sink.open(run)
    mlflow.MlflowClient().delete_run(home.run_id)
    with pytest.raises(SinkClosedError, match=f"run {home.run_id}: .*deleted.*; check"):
        sink.send([event(1, step=1, metrics={"loss": 1.0})])


def test_an_unknown_run_is_refused(run: Event, mlflow_db: str) -> None:
    """To attach to a run that is not there is useless."""
    with pytest.raises(SinkClosedError, match=r"run feed: .*not found"):
        MLflowSink(mlflow_db, "feed").open(run)


def test_a_server_refuses_in_the_same_way(run: Event, mlflow_server: str) -> None:
    """Over HTTP a refusal is a refusal too."""
    with pytest.raises(SinkClosedError, match=r"run feed: .*not found"):
        MLflowSink(mlflow_server, "feed").open(run)


def test_a_refusal_tells_no_secret(run: Event, mlflow_server: str) -> None:
    """The password of the tracking URI is not in the message."""
    uri = mlflow_server.replace("://", "://user:secret@")
    with pytest.raises(SinkClosedError) as refused:
        MLflowSink(uri, "feed").open(run)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "final"),
    [
        (codes.INVALID_PARAMETER_VALUE, True),
        (codes.RESOURCE_DOES_NOT_EXIST, True),
        (codes.PERMISSION_DENIED, True),
        (codes.REQUEST_LIMIT_EXCEEDED, False),
        (codes.INTERNAL_ERROR, False),
        (codes.TEMPORARILY_UNAVAILABLE, False),
    ],
)
def test_the_status_decides(code: int, final: bool) -> None:  # noqa: FBT001  # a parameter
    """A 4xx other than 408 and 429 is final."""
    assert client.is_final(MlflowException("no", error_code=code)) is final


def test_trouble_with_the_database_passes() -> None:
    """MLflow says BAD_REQUEST where its database connection was lost; that is worth another try."""
    error = MlflowException("lost", error_code=codes.BAD_REQUEST)
    error.__cause__ = sa.exc.InterfaceError("select", {}, Exception("connection closed"))
    assert not client.is_final(error)
