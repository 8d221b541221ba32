"""`kept` says of any number and any name of others exactly what comes back of it.

That the same is true of RLDK's own events is tested in tests/law.
"""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from rldk.bridge import tracker_metrics
from rldk_wandb.sink import WandbSink
from tests.bridges._wandb_runs import deliver, event, read_back, wandb_offline  # noqa: F401

pytestmark = pytest.mark.real

NUMBERS = st.floats() | st.integers() | st.integers(-(2**70), 2**70) | st.booleans()
NUMBERS |= st.floats(allow_nan=False).map(lambda x: float(round(x)) if math.isfinite(x) else x)
NAMES = st.text(max_size=12) | st.sampled_from(
    [
        "_step",
        "_runtime",
        "_timestamp",
        "_wandb",
        "",
        "_x_",
        "\\",
        "_x005F_step",
        "a*",
        "*",
        "a.b",
        "rldk/a",
        "x" * 3000,
    ]
)
ODD = [
    4.0,
    -0.0,
    0.0,
    True,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**64),
    2**70,
    10**400,
    -(10**5000),
    1e16,
    1e21,
    9e18,
]
ODD += [1e300, 5e-324, 0.1 + 0.2, math.nan, math.inf, -math.inf, 123456789012345678]


_numbers = itertools.count()


def same(one, other):
    """Whether two numbers are one: NaN is itself, and 4 is 4.0."""
    return one == other or (math.isnan(one) and math.isnan(other))


def check(metrics, **fields):
    """Send one event, and compare what comes back with what was said to."""
    sent = event(1, metrics=metrics, **fields)
    run = event(
        0, kind="run", model_info={"run_id": f"run-{next(_numbers)}"}
    )  # else it were one more fragment
    (back,) = read_back(deliver(run, [sent]).source)
    told = dict(WandbSink.kept(name, value) for name, value in tracker_metrics(sent).items())
    shown = tracker_metrics(back)
    assert shown.keys() == told.keys()
    assert [name for name in told if not same(shown[name], told[name])] == []


@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(NAMES, NUMBERS, min_size=30, max_size=60))
@example({f"odd {i}": number for i, number in enumerate(ODD)})
@example(
    dict.fromkeys(["_step", "_runtime", "_timestamp", "_wandb", "", "a\ud800b", "rldk/step", "rldk/x"], 0.5)
)
def test_of_others(metrics):
    """Of events with names as others gave them, those among them that W&B keeps for itself."""
    check(metrics, model_info={"raw": True})


def test_many_and_long_names():
    """Thousands of names in one row, and very long ones, are kept."""
    check({f"metric/{i}": i / 3 for i in range(5000)} | {"y" * 20_000: 1.5})


def test_w_and_b_keeps_some_names_for_itself(tmp_path):
    """The quirk that escaping copes with: under these names a value is lost or replaced."""
    import wandb

    from rldk_wandb.offline import WandbFile
    from tests.bridges._wandb_runs import forget_wandb, wandb_file

    with wandb.init() as run:
        run.log({"_step": 7.5, "_runtime": 7.5, "": 7.5})
    forget_wandb()
    (row,) = WandbFile(wandb_file(tmp_path)).rows()
    assert 7.5 not in row.values()


def test_one_name_kills_wandb_core():
    """The quirk that escaping copes with: of a metric whose name is a backslash wandb-core dies."""
    import wandb

    run = wandb.init()
    run.define_metric("\\")
    with pytest.raises(ConnectionResetError):
        log_much(run)


def log_much(run):
    """Log until wandb-core has had time to die."""
    for _ in range(10_000):
        run.log({"a": 1})
