"""Any metric name can be written in MLflow's alphabet and read back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from rldk_mlflow.names import MAX_LENGTH, escape, unescape

AWKWARD = st.text(alphabet="_x0041A./\n(é😀\ud800", min_size=1, max_size=20)
NAMES = st.text(st.characters(), max_size=20) | AWKWARD


@given(NAMES)
@example("_x0041(")
@example("..a")
@example("a/../b/.")
def test_escape_can_be_undone(name: str) -> None:
    """What is escaped is unescaped to itself."""
    assert unescape(escape(name)) == name


@given(NAMES)
def test_mlflow_takes_every_escaped_name(name: str) -> None:
    """MLflow's own validator accepts the result, whatever the name."""
    said = escape(name)
    _validate_metric_name(said)
    assert not said.endswith("\n")  # 3.17 takes this, 3.18 does not


@pytest.mark.parametrize("name", ["rldk/reward_mean", "rldk/eval/kl:k3 v2.0", "loss-ä"])
def test_a_plain_name_is_left_alone(name: str) -> None:
    """What MLflow allows is not escaped."""
    assert escape(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kl(pi)", "kl_x0028_pi_x0029_"),
        ("😀", "_x0001F600_"),
        ("_x0041_", "_x005F_x0041_"),
        ("a//b", "a_x002F_/b"),
        ("../a", "_x002E_./a"),
        ("", "_x00000000_"),
    ],
)
def test_the_escape_is_that_of_ooxml(name: str, said: str) -> None:
    """A forbidden character becomes its code between `_x` and `_`."""
    assert escape(name) == said


def test_names_too_long_stay_distinct() -> None:
    """A name that does not fit is cut, is valid, and is still its own."""
    said = {escape("a(" * 200 + tail) for tail in "xy"}
    assert {len(name) for name in said} == {MAX_LENGTH}
    assert len(said) == 2
    for name in said:
        _validate_metric_name(name)


@given(st.text(max_size=600))
def test_no_length_is_refused(name: str) -> None:
    """The cut never leaves a name that MLflow refuses."""
    said = escape(name)
    _validate_metric_name(said)
    assert len(said) <= MAX_LENGTH


@pytest.mark.parametrize("said", ["a_x0041_", "_x0000005F_", "_x00000041_b", "_xZZZZ_", "_x28_"])
def test_what_somebody_else_called_so_stays(said: str) -> None:
    """Only what `escape` writes is an escape; else two names of others could become one."""
    assert unescape(said) == said
