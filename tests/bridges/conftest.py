"""What the tests of the MLflow bridge share: events, and a server that is not there."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from rldk.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

BEGAN = 1763847600.123


@pytest.fixture
def event() -> Callable[..., Event]:
    """Build an event of one run, which is no other test's; `at` is seconds since the run began."""
    run_id = f"run-{uuid.uuid4().hex[:8]}"

    def build(at: float = 0.0, **fields: Any) -> Event:  # any field of Event
        told = {"run_id": run_id, "git_sha": "abc123", "phase": "train", "segment": 0}
        defaults: dict[str, Any] = {
            "step": 0,
            "metrics": {},
            "data_slice": {},
            "rng": {"seed": 42},
            "notes": [],
        }
        model_info = told | fields.pop("model_info", {})
        when = {"time": round(BEGAN + at, 3), "wall_time": round(at, 3)}
        return Event(**defaults | when | {"model_info": model_info} | fields)

    return build


@pytest.fixture
def run(event: Callable[..., Event]) -> Event:
    """The event that begins the run."""
    return event(kind="run", model_info={"trainer": "GRPOTrainer"})


@pytest.fixture
def dead_server(monkeypatch: pytest.MonkeyPatch, free_port: int) -> str:
    """The address of a server that is not there, and that MLflow is configured to use."""
    uri = f"http://127.0.0.1:{free_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri
