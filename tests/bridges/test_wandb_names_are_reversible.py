"""Whatever a metric is called, W&B can hold its name and we can read it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rldk_wandb.names import escape, escape_raw, unescape

NAMES = st.text() | st.text(alphabet="_x0025FA*b")


@given(NAMES)
@example("_x002A*")
@example("_x_")
@example("")
@example("rldk/step")
@example("a\ud800")
@example("_x005F_x002A_")
def test_names_come_back(name):
    """Reading an escaped name gives the name."""
    assert unescape(escape(name)) == name
    assert unescape(escape_raw(name)) == name


@given(NAMES)
def test_no_name_is_a_glob(name):
    """No escaped name has a star in it, which would make it a glob or an error."""
    assert "*" not in escape(name)


def test_usual_names_stay_readable():
    """Names that W&B can say are written as they are."""
    assert escape_raw("pos_x_mean") == "pos_x_mean"
    assert escape("rldk/rewards/<lambda>/mean.1 ü") == "rldk/rewards/<lambda>/mean.1 ü"
