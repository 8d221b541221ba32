"""What does W&B make of a name or a number, and how is it spelled so that it keeps it?"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final

from rldk.bridge import PREFIX
from rldk.event import as_float, as_number, spell_non_finite

STEP: Final = f"{PREFIX}step"
SEQ: Final = f"{PREFIX}seq"
REPORT: Final = f"{PREFIX}report"
"""The page for people, in a row of its own without SEQ, which no reader takes for something measured."""
TIME: Final = "_timestamp"  # W&B's own key; it keeps the value that a row brings

# A name that ends in * is a glob to define_metric, and one with * inside is refused; a lone surrogate is
# an error, and of the name \ alone wandb-core 0.31.0 dies. Some names W&B gives values of its own, and
# under an empty one it keeps nothing. All others survive: dots, spaces, control characters, 20,000 letters,
# 20,000 names in one row.
_UNSAYABLE: Final = re.compile(r"\*|[\ud800-\udfff]|_(?=x[0-9A-F]{4})|^_(?=x_\Z)")
_RESERVED: Final = frozenset({"_step", "_runtime", TIME, "_wandb", "\\"})
_ESCAPED: Final = re.compile(r"_x([0-9A-F]{4})_")
_EMPTY: Final = "_x_"
_INT64: Final = range(-(2**63), 2**63)


def escape(name: str) -> str:
    """Spell a metric name so that W&B keeps it; `a*` becomes `a_x002A_`, as OOXML writes it."""
    if name in _RESERVED:
        return _code(name[0]) + name[1:]
    return _UNSAYABLE.sub(lambda match: _code(match[0]), name) or _EMPTY


def escape_raw(name: str) -> str:
    """Spell a metric name that is not RLDK's: as `escape` does, and so that it is not taken for RLDK's."""
    said = escape(name)
    return _code(said[0]) + said[1:] if said.startswith(PREFIX) else said


@lru_cache(maxsize=4096)
def unescape(said: str) -> str:
    """Undo `escape` and `escape_raw`."""
    return "" if said == _EMPTY else _ESCAPED.sub(lambda match: chr(int(match[1], 16)), said)


def _code(letter: str) -> str:
    return f"_x{ord(letter):04X}_"


def sayable(value: float) -> float:
    """Hand over integers beyond 64 bits as floats, which is all that wandb-core makes of them.

    Past 4300 digits Python itself would refuse to write them.
    """
    return value if not isinstance(value, int) or value in _INT64 else as_float(value)


def kept(value: float) -> float:
    """What comes back of a number: an equal one, False as 0, an integer beyond 64 bits as a float."""
    number = sayable(int(value) if isinstance(value, bool) else value)
    return number or 0


def spelled(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Spell config or summary so that W&B keeps it: it makes null of NaN, and fails at keys of numbers."""
    if isinstance(value, dict):
        return {str(key): spelled(inner) for key, inner in value.items()}
    return spell_non_finite(value)


def number(value: object) -> int | float | None:
    """Read a number as W&B holds it, where NaN may be its name; None for anything else."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return as_number(value) if value in {"NaN", "Infinity", "-Infinity"} else None
    return value if isinstance(value, int | float) else None


def is_whole(value: object) -> bool:
    """Whether a value can be a step."""
    return isinstance(value, int) and not isinstance(value, bool)


def milliseconds(seconds: float) -> int | None:
    """A time in whole milliseconds; None for one that no clock tells."""
    return round(seconds * 1000) if math.isfinite(seconds) else None
