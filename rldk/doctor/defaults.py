"""Which values do arguments have that nobody gives? Asked of the installed TRL, in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from enum import Enum
from typing import Any, Final

import msgspec

_HOMES: Final = {"OnlineDPO": ("trl.experimental.online_dpo", "trl"), "PPO": ("trl.experimental.ppo", "trl")}


def defaults(trainer: str, limit_s: float) -> dict[str, Any] | None:
    """Give a trainer's defaults; None where TRL is not installed, or does not tell in time.

    All arguments are there; None stands for a default that is None, or no plain value.
    """
    command = [sys.executable, "-m", "rldk.doctor.defaults", trainer]
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit_s, check=True
        )
        told = msgspec.json.decode(done.stdout.rstrip().rpartition(b"\n")[2])
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None
    return told if isinstance(told, dict) else None


def main(trainer: str) -> None:
    """Write the defaults as one line of JSON."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    config = _config(trainer)
    told = {field.name: _plain(field.default) for field in dataclasses.fields(config)}
    plain = {
        name: value if isinstance(value, bool | int | float | str) else None for name, value in told.items()
    }
    sys.stdout.write("\n" + msgspec.json.encode(plain).decode() + "\n")


def _config(trainer: str) -> Any:  # noqa: ANN401  # a class of TRL's
    for home in _HOMES.get(trainer, ("trl",)):
        try:
            return getattr(importlib.import_module(home), f"{trainer}Config")
        except (ImportError, AttributeError):
            continue
    sys.exit(f"TRL has no {trainer}Config")


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


if __name__ == "__main__":
    main(sys.argv[1])
