"""Whatever a W&B server answers, and whenever, the training process ends in time and no event is lost."""

from __future__ import annotations

import pytest

from tests.faults._child import AbortedError, Child
from tests.faults._life import DEADLINE_S, RUN_ID, SLACK_S

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("impatient")]

PLACES = ("graphql", "file_stream")
STATUSES = (429, 500, 401)
PATIENCE_S = 3.0  # in place of the 20 s that a run of our own gives wandb to open and to end


@pytest.fixture
def child(wandb_backend, tmp_path, monkeypatch):
    """A process that records to a W&B run of its own, online."""
    monkeypatch.setenv("TEST_WANDB_PATIENCE_S", str(PATIENCE_S))
    children = []

    def begin():
        child = Child(tmp_path / "rldk", "wandb").__enter__()
        children.append(child)
        return child

    yield begin
    for child in children:
        child.__exit__()


def hurt(backend, fault):
    """Have everything go wrong."""
    if fault == "down":
        backend.down()
    for place in PLACES if fault != "down" else ():
        if fault == "hang":
            backend.faults.hang(place)
        else:
            backend.faults.answer(place, fault, retry_after_s=1 if fault == 429 else None)


def heal(backend):
    """Let everything go well."""
    backend.faults.clear()
    backend.up()


def rows_once(backend):
    """Whether the server holds no row twice."""
    times = [row["_timestamp"] for row in backend.rows(RUN_ID) if "rldk/seq" in row]
    return len(times) == len(set(times))


# Rarely: Python ends a daemon thread that is inside pydantic's Rust, which aborts the process.
@pytest.mark.xfail(raises=AbortedError, strict=False)
@pytest.mark.parametrize("fault", [*STATUSES, "down", "hang"])
def test_wandb_at_init(child, wandb_backend, made_whole, fault):
    """The run is not opened; all waits."""
    hurt(wandb_backend, fault)
    run = child()
    run.log(20)
    report = run.end(patience_s=60)
    heal(wandb_backend)
    made_whole(run)
    assert rows_once(wandb_backend)
    assert report.waiting == 22


@pytest.mark.parametrize("fault", [*STATUSES, "down", "hang"])
def test_wandb_at_log(child, wandb_backend, made_whole, fault):
    """What wandb-core could not send is sent later."""
    run = child()
    run.log(20)
    run.arrive()
    hurt(wandb_backend, fault)
    run.log(20)
    run.end(patience_s=60)
    heal(wandb_backend)
    made_whole(run, deadline_s=PATIENCE_S + 1)
    assert rows_once(wandb_backend)


def test_wandb_keeps_the_deadline(child, wandb_backend):
    """A server that fails costs the deadline that the user has set, and as much again where wandb exits."""
    run = child()
    run.log(20)
    run.arrive()
    hurt(wandb_backend, 500)
    run.end(patience_s=60)
    assert run.end_s < 2 * DEADLINE_S + SLACK_S


@pytest.mark.parametrize("fault", [500, 401])
def test_wandb_healed_in_time(child, wandb_backend, made_whole, fault):
    """An outage that ends before the training does costs nothing."""
    hurt(wandb_backend, fault)
    run = child()
    run.log(20)
    run.await_failure()
    heal(wandb_backend)
    run.log(20)
    run.arrive()
    run.end(patience_s=60)
    made_whole(run)
    assert rows_once(wandb_backend)
