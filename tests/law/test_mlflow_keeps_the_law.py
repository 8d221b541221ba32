"""What is sent to MLflow is what is read back: from a database in a file, a server, and PostgreSQL."""

from __future__ import annotations

import pytest
from hypothesis import settings

from rldk.testing.conformance import BridgeConformance
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.sink import MLflowSink


class MLflowConformance(BridgeConformance):
    """The suite, for MLflow."""

    sink = MLflowSink
    adapter = MLflowAdapter


@pytest.mark.usefixtures("mlflow_db")
class TestSQLite(MLflowConformance):
    """A database in a file."""


@pytest.mark.real
@pytest.mark.usefixtures("mlflow_server")
class TestServer(MLflowConformance):
    """A real `mlflow server`."""

    profile = settings(MLflowConformance.profile, max_examples=4)


@pytest.mark.real
@pytest.mark.usefixtures("mlflow_postgres")
class TestPostgres(MLflowConformance):
    """A real PostgreSQL, without a server of MLflow before it."""

    profile = settings(MLflowConformance.profile, max_examples=6)
