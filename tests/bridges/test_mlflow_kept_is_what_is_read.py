"""`kept` says exactly what a database behind MLflow gives back of what others logged; the rest is declared.

That the same is true of RLDK's own events is tested in tests/law.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rldk.bridge import Target, tracker_metrics
from rldk_mlflow.adapter import MLflowAdapter
from rldk_mlflow.points import NONFINITE_COUNT
from rldk_mlflow.sink import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from rldk.event import Event

pytestmark = pytest.mark.usefixtures("mlflow_db")

MOST = sys.float_info.max
VALUES = st.floats() | st.integers() | st.sampled_from([-0.0, MOST, -MOST, 5e-324, 2**53 + 1, -(10**400)])
NAMES = (
    st.text(max_size=12)
    | st.text("_x0041A./\n( é😀\ud800", max_size=12)
    | st.text(min_size=245, max_size=270)
)
NUMBERS = st.dictionaries(NAMES.filter(lambda n: not n.startswith("rldk/")), VALUES, min_size=1, max_size=20)


def bits(numbers: dict[str, float]) -> dict[str, str | bytes]:
    """Numbers so that NaN is NaN, and zero is not negative zero."""
    return {k: "nan" if math.isnan(v) else struct.pack("d", v) for k, v in numbers.items()}


def read(event: Callable[..., Event], **fields: Any) -> dict[str, float]:
    """Send one event to a run of its own, and give what its tracker shows when it is read."""
    sink = MLflowSink.create(Target(project="kept"))
    home = sink.open(event(kind="run", model_info={"run_id": f"run-{read.__dict__.setdefault('n', 0)}"}))
    read.__dict__["n"] += 1
    sink.send([event(1, **fields)])
    shown: dict[str, float] = {}
    for back in list(MLflowAdapter(home.source).events())[1:]:
        shown |= tracker_metrics(back)
    return shown


def kept(numbers: dict[str, int | float]) -> dict[str, float]:
    """What the sink says that it keeps."""
    return dict(MLflowSink.kept(name, value) for name, value in numbers.items())


@given(numbers=NUMBERS)
@example(numbers={"": 1.0, "_x00000000_": 2.0, "\0": 3.0})
@example(numbers={"a": -0.0, "b": MOST, "c": 2**53 + 1, "d": math.nan, "e": -math.inf})
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_others_logged_is_read_as_kept_says(
    event: Callable[..., Event], numbers: dict[str, float]
) -> None:
    """Of a raw event, every name and every number."""
    assert bits(read(event, metrics=numbers, model_info={"raw": True})) == bits(kept(numbers))


@pytest.mark.parametrize(
    ("sent", "kept", "loss"),
    [
        (-0.0, 0.0, "Negative zero"),
        (MOST, math.inf, "largest float"),
        (2**53 + 1, 2.0**53, r"2\*\*53"),
    ],
)
def test_a_number_that_changes_is_declared(
    event: Callable[..., Event], sent: float, kept: float, loss: str
) -> None:
    """The day MLflow keeps it, this fails, and the loss can go."""
    back = read(event, metrics={"x": sent}, model_info={"raw": True})
    assert bits(back) == bits({"x": kept})
    assert any(loss.replace("\\", "") in each for each in MLflowSink.losses)


def test_a_value_that_is_no_number_is_left_out(event: Callable[..., Event]) -> None:
    """Text that a careless source gives costs neither the event nor the delivery."""
    back = read(
        event, metrics={"loss": 1.0, "label": "good", "none": None, "flag": True}, model_info={"raw": True}
    )
    assert back == {"loss": 1.0, "flag": 1.0}
    assert any("no number" in each for each in MLflowSink.losses)


def test_a_metric_with_the_name_of_our_count_is_declared(event: Callable[..., Event]) -> None:
    """RLDK's own count of broken values has this name in MLflow."""
    name = NONFINITE_COUNT.removeprefix("rldk/")
    assert read(event, metrics={name: 5.0, "loss": 1.0}) == {"rldk/loss": 1.0}
    assert any(name in each for each in MLflowSink.losses)
