"""What does the installed TRL say of arguments: of those given, and of the rest? In a process of its own."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from enum import Enum
from typing import Any, Final

import msgspec

from rldk.doctor.values import Fault, faults

_HOMES: Final = {"OnlineDPO": ("trl.experimental.online_dpo", "trl"), "PPO": ("trl.experimental.ppo", "trl")}
_OF_LAUNCHERS: Final = frozenset({"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"})
"""With these the class would wait for the other processes of a training."""


class Asked(msgspec.Struct):
    """What is asked: about arguments, and whether the rest have their defaults."""

    args: dict[str, Any]
    is_all: bool


class Said(msgspec.Struct):
    """What TRL says.

    Attributes:
        defaults: All arguments; None stands for a default that is None, or no plain value.
        faults: The values given that will not do.
    """

    defaults: dict[str, bool | int | float | str | None]
    faults: list[Fault] = []


def ask(trainer: str, limit_s: float, asked: Asked) -> Said | None:
    """Ask; None where TRL is not installed, has no such trainer, or does not tell in time.

    Args:
        trainer: Its short name.
        limit_s: How long that may take, in seconds.
        asked: The arguments that are given.
    """
    command = [sys.executable, "-m", "rldk.doctor.defaults", trainer]
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            command,
            capture_output=True,
            input=msgspec.json.encode(asked, enc_hook=str),
            timeout=limit_s,
            check=True,
            env={name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS},
        )
        return msgspec.json.decode(done.stdout.rstrip().rpartition(b"\n")[2], type=Said)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None


def main(trainer: str) -> None:
    """Read what is asked, and write what TRL says as one line of JSON."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    config = _config(trainer)
    told = {field.name: _plain(field.default) for field in dataclasses.fields(config)}
    plain = {
        name: value if isinstance(value, bool | int | float | str) else None for name, value in told.items()
    }
    said = Said(plain, list(faults(config, asked.args, is_all=asked.is_all)))
    sys.stdout.write("\n" + msgspec.json.encode(said).decode() + "\n")


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
