"""How are the small text files of MLflow's file store read: its points, and its flat YAML?"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_LINE: Final = 4096
LONGEST_TEXT: Final = 2**20

_MOST_BAD: Final = 100_000
_INT64: Final = range(-(2**63), 2**63)


class Point(NamedTuple):
    """One value of a metric, as MLflow's client gives it."""

    timestamp: int
    step: int
    value: float


def points(path: Path) -> tuple[list[Point], list[int]]:
    """Read a metric's file: `timestamp value step`, and the numbers of the lines that are no points."""
    found: list[Point] = []
    bad: list[int] = []
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            try:
                found.append(_line(line))
            except (ValueError, OverflowError):
                bad.append(number) if len(bad) < _MOST_BAD else None
    return found, bad


def _line(line: bytes) -> Point:
    # Old stores left out the step, new ones add the data set behind it:
    # https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/store/tracking/file_store.py#L911
    parts = line.decode("ascii").split()
    if len(parts) not in {2, 3, 5} or not line.endswith(b"\n"):
        raise ValueError("it is no point")
    step = parts[2] if len(parts) > 2 else "0"  # noqa: PLR2004
    return point(_number(parts[0]), _number(step), float(parts[1]))


def _number(said: str) -> float:
    try:
        return int(said)  # a float would round what is beyond 2**53
    except ValueError:
        return float(said)


def point(timestamp: float, step: float, value: float) -> Point:
    """Make a point; fractions of a millisecond and of a step are cut off.

    Raises:
        ValueError: One of them is no number, or beyond 64 bits.
        OverflowError: One of them is infinite.
    """
    found = Point(int(timestamp), int(step), value)
    if found.timestamp not in _INT64 or found.step not in _INT64:
        raise ValueError("it is beyond 64 bits")
    return found


_LINE: Final = re.compile(r"(\w+):(?: (.*))?")


def flat_yaml(path: Path) -> dict[str, str]:
    """Read the flat YAML that MLflow writes: names and scalars, of which long ones are wrapped."""
    found: dict[str, str] = {}
    name = ""
    for line in text(path).splitlines():
        if (told_of := _LINE.fullmatch(line)) is not None:
            name = told_of[1]
            found[name] = told_of[2] or ""
        elif name and line.startswith(" "):
            joint = "" if found[name].endswith("\\") else " "
            found[name] = found[name].removesuffix("\\") + joint + line.strip().removeprefix("\\")
    return {name: scalar(said) for name, said in found.items()}


def scalar(said: str) -> str:
    """Take the quotes of YAML off a scalar; null is empty."""
    if len(said) > 1 and said[0] == said[-1] == "'":
        return said[1:-1].replace("''", "'")
    if len(said) > 1 and said[0] == said[-1] == '"':
        return _unescaped(said)
    return "" if said == "null" else said


def _unescaped(said: str) -> str:
    """Undo YAML's escapes: those of JSON, and single bytes."""
    try:
        return str(json.loads(re.sub(r"\\x([0-9A-Fa-f]{2})", r"\\u00\1", said)))
    except ValueError:
        return said[1:-1]


def text(path: Path) -> str:
    """Read a file up to its first MiB; bytes that are no UTF-8 are replaced."""
    with path.open("rb") as file:
        return file.read(LONGEST_TEXT).decode("utf-8", "replace")
