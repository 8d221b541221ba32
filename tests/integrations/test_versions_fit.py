"""An install that cannot work is told as such, with what to install instead."""

from __future__ import annotations

import pytest

from rldk.integrations.trl.compat import complaint


@pytest.mark.parametrize("trl", ["0.23.1", "0.28.0"])
def test_an_old_trl_with_transformers_5_is_told(trl):
    """The message names both, what fails, and the remedy; TRL's own only names a library nobody wants."""
    said = complaint(trl, "5.23.0")
    assert trl in said
    assert "GRPOTrainer" in said
    assert "pip install 'transformers<5'" in said


@pytest.mark.parametrize(
    ("trl", "transformers"),
    [("0.23.1", "4.56.2"), ("0.29.0", "5.23.0"), ("1.16.0", "5.23.0"), (None, "5.0"), ("0.23.1", None)],
)
def test_what_works_is_left_alone(trl, transformers):
    """No message for a pair that works, or where one of the two is missing."""
    assert complaint(trl, transformers) is None
