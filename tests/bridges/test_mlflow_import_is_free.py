"""To import the bridge costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

SINK = "from rldk_mlflow.sink import MLflowSink"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import rldk_mlflow.sink", id="sink"),
        pytest.param("import rldk_mlflow.adapter", id="adapter"),
        pytest.param(f"{SINK}; assert MLflowSink.attach() is None", id="attach"),
        pytest.param(f"{SINK}; MLflowSink.create()", id="create"),
    ],
)
def test_mlflow_is_not_imported(code: str) -> None:
    """MLflow, which takes seconds, is imported when a run is opened or read, off the training thread."""
    look = "import sys; sys.exit('mlflow' in sys.modules or 'sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {look}"], check=True)
