"""Where the installed TRL has no PPO, or none is installed, the error says what to install."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from rldk.integrations.trl import create_ppo_trainer
from rldk.integrations.trl.ppo import NoPPOError, ppo_class


def has_ppo():
    """Whether the installed TRL still has PPO."""
    try:
        return ppo_class() is not None
    except NoPPOError:
        return False


def run(program, folder):
    """Run a program of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(has_ppo(), reason="this TRL has PPO")
def test_a_trl_without_ppo_names_the_last_release_that_has_it():
    """Before anything is loaded, and as an ImportError."""
    with pytest.raises(NoPPOError, match=r"pip install 'trl<=1.12.0'") as caught:
        create_ppo_trainer("no such model", None, None)
    assert isinstance(caught.value, ImportError)


def test_without_trl_the_error_says_how_to_install_it(tmp_path):
    """The rest of rldk.integrations.trl works."""
    done = run(
        """
        import sys
        sys.modules["trl"] = None  # as if not installed
        from rldk.errors import MissingDependencyError
        from rldk.integrations.trl import EventWriterCallback, create_ppo_trainer
        EventWriterCallback("log.jsonl")
        try:
            create_ppo_trainer("model", None, None)
        except MissingDependencyError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "needs trl, which is not installed; run: pip install 'rldk[trl]'" in done.stdout, done.stderr


def test_without_transformers_the_import_says_how_to_install_it(tmp_path):
    """It is an ImportError."""
    done = run(
        """
        import sys
        sys.modules["transformers"] = None  # as if not installed
        from rldk.integrations.trl import create_ppo_trainer
        """,
        tmp_path,
    )
    assert "MissingDependencyError" in done.stderr
    assert "pip install 'rldk[trl]'" in done.stderr
