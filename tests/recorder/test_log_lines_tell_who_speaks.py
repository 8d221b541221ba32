"""Amid what a trainer prints, a line of RLDK's log says whose it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

SPEAK = "from rldk.redact import logger; logger('rldk.recorder').warning('step %d: %s', 3, 'too long')"


@pytest.mark.parametrize(
    ("set_up", "line"),
    [
        ("", "rldk: step 3: too long\n"),
        ("import logging; logging.basicConfig(); ", "WARNING:rldk.recorder:step 3: too long\n"),
    ],
)
def test_who_speaks_is_said_once(set_up, line):
    """By the line itself where nobody has set up logging, else by the logger's name, as they like it."""
    done = subprocess.run([sys.executable, "-c", set_up + SPEAK], capture_output=True, text=True, check=True)
    assert done.stderr == line
