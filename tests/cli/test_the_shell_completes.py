"""The shell completes commands, options and names: typer's protocol, and a real bash that installed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rldk.bridge import adapters, sinks
from rldk.doctor.configuration import TRAINERS
from rldk.health.limits import LIMITS
from rldk.health.rules import built_in

RLDK = str(Path(sys.executable).with_name("rldk"))
HEAVY = ("torch", "pandas", "numpy", "mlflow", "wandb", "matplotlib", "transformers", "pyarrow")


def completed(shell, line):
    """What is offered for a line, in the way that the shell asks."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = os.environ | asked | {"_RLDK_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([RLDK], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rldk che", ["check"]),
        ("rldk diff a b --rt", ["--rtol"]),
        ("rldk ingest x --adapter t", [name for name in adapters() if name.startswith("t")]),
        ("rldk verify x y --adapter ", [*adapters()]),
        ("rldk sync x --to ", [*sinks()]),
        ("rldk demo --tracker w", ["wandb"]),
        ("rldk doctor --tracker ", [*sinks()]),
        ("rldk doctor --trainer ", [*TRAINERS]),
        ("rldk check x --fail-on c", ["critical"]),
        ("rldk check x --threshold k", [f"{name}=" for name in LIMITS if name.startswith("k")]),
        ("rldk explain kl_", [rule.name for rule in built_in() if rule.name.startswith("kl_")]),
        ("rldk check x --field-map mine=kl_m", ["mine=kl_mean"]),
        ("rldk diff a b --metrics reward_s", ["reward_std"]),
        ("rldk ingest out/", []),
        ("rldk explain out/", []),
    ],
)
def test_names_are_offered(line, offered):
    """Where there are none, nothing is, so that the shell offers files."""
    assert sorted(completed("bash", line).split()) == sorted(offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same(shell):
    """In the form that each of them reads."""
    assert "tensorboard" in completed(shell, "rldk ingest x --adapter t")
    assert "check" in completed(shell, "rldk che")


def test_completing_and_help_load_nothing_heavy():
    """A TAB must not take a second."""
    program = (
        "import sys, os\n"
        "from rldk.cli import app\n"
        "try:\n"
        "    app(sys.argv[1:], prog_name='rldk')\n"
        "finally:\n"
        f"    print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    asked = {"_RLDK_COMPLETE": "complete_bash", "COMP_WORDS": "rldk ingest --adapter ", "COMP_CWORD": "3"}
    trainers = asked | {"COMP_WORDS": "rldk doctor --trainer "}
    for words, environment in ((["--help"], {}), (["diff", "--help"], {}), ([], asked), ([], trainers)):
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "HEAVY"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder in which nothing is installed."""
    for name in ("HOME", "ZDOTDIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(RLDK).parent}:{os.environ['PATH']}")
    return tmp_path


def bash(script):
    """Run a script in bash."""
    command = ["bash", "--norc", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_install_completion_makes_bash_complete(home):
    """The script that it installs is sourced by a real bash, whose function then answers."""
    done = bash("rldk --install-completion; exit $?")
    assert done.returncode == 0, done.stderr
    assert "bash completion installed" in done.stdout
    ask = "COMP_WORDS=(rldk sync x --to ml); COMP_CWORD=4; _rldk_completion rldk; echo ${COMPREPLY[@]}"
    asked = bash(f'. "$HOME/.bashrc"; {ask}; complete -p rldk')
    assert asked.stdout.splitlines()[0] == "mlflow", asked.stderr
    assert "-F _rldk_completion rldk" in asked.stdout


def test_show_completion_prints_the_script(home):
    """Of the shell in which it is called."""
    assert "_RLDK_COMPLETE=complete_bash" in bash("rldk --show-completion; exit $?").stdout
