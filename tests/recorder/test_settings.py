"""Each setting of delivery can be set by its variable, and only to what can be used."""

from __future__ import annotations

import pytest

from rldk.errors import SettingError
from rldk.settings import Settings, from_environment

NAMES = Settings.__struct_fields__


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_sets_its_setting(name):
    """RLDK_ and the name in capitals; the others keep their defaults."""
    value = "always" if name == "fsync" else "7"
    changed = from_environment({f"RLDK_{name.upper()}": value})
    assert str(getattr(changed, name)).removesuffix(".0") == value
    assert [n for n in NAMES if getattr(changed, n) != getattr(Settings(), n)] == [name]


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "many", ""])
@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_cannot_be_used_is_told(name, value):
    """Neither for ever nor less than nothing; the others are not spoken of."""
    variable = f"RLDK_{name.upper()}"
    with pytest.raises(SettingError) as caught:
        from_environment({"RLDK_LINGER_S": "1", "RLDK_FSYNC": "never", variable: value})
    said, _, allowed = str(caught.value).partition("; ")
    assert said == f"{variable}={value!r} cannot be used"
    kinds = ("give a number of seconds", "give a whole number", "give never, interval or always")
    assert allowed.startswith(kinds)


@pytest.mark.parametrize("name", ["retry_first_s", "retry_most_s", "fsync_interval_s", "resource_interval_s"])
def test_a_pause_is_more_than_nothing(name):
    """Else a tracker that is down would be asked without end."""
    with pytest.raises(SettingError, match=f"{name}=0.0 cannot be used; .* more than 0"):
        Settings(**{name: 0.0})
    assert getattr(Settings(**{name: 1e-9}), name) > 0
