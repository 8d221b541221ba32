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
    """Neither for ever nor less than nothing."""
    with pytest.raises(SettingError, match="RLDK_"):
        from_environment({f"RLDK_{name.upper()}": value})
