"""How is a metric named in MLflow: its small alphabet, and an escape that can be undone."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

MAX_LENGTH: Final = 250

_CACHED: Final = 8192

# MLflow allows \w, slash, dot, dash, space and colon, and wants a name to be its own
# posixpath.normpath: https://github.com/mlflow/mlflow/blob/v3.17.2/mlflow/utils/validation.py#L321-L344
_UNSAYABLE: Final = re.compile(
    r"[^/\w.\- :]"
    r"|_(?=x[0-9A-F]{4})"  # would be read as an escape
    r"|\A/|/(?=/|\Z)"
    r"|(?<![^/])\.(?=\.?(?:/|\Z))|\A\.(?=\.)"
)
_ESCAPE: Final = re.compile(r"_x([0-9A-F]{4}|[0-9A-F]{8})_")
_EMPTY: Final = "_x00000000_"  # eight digits where four would do: no character is spelled so


@lru_cache(maxsize=_CACHED)
def escape(name: str) -> str:
    """Spell a name in MLflow's alphabet: `kl(pi)` becomes `kl_x0028_pi_x0029_`, as OOXML writes it.

    A name that is too long even for this is cut and told apart by a hash; that cannot be undone.
    """
    said = _UNSAYABLE.sub(_spell, name) or _EMPTY
    return said if len(said) <= MAX_LENGTH else _cut(said)


@lru_cache(maxsize=_CACHED)
def unescape(said: str) -> str:
    """Undo `escape`; a name that it would have spelled otherwise is somebody else's, and stays as it is."""
    name = "" if said == _EMPTY else _ESCAPE.sub(_read, said)
    is_cut = len(said) == MAX_LENGTH
    return name if is_cut or escape(name) == said else said


def _spell(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"_x{code:04X}_" if code <= 0xFFFF else f"_x{code:08X}_"  # noqa: PLR2004  # four digits' worth


def _read(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if code <= 0x10FFFF else match[0]  # noqa: PLR2004  # the last code point


def _cut(said: str) -> str:
    mark = blake2b(said.encode(), digest_size=8).hexdigest()
    return f"{said[: MAX_LENGTH - len(mark) - 1]}.{mark}"
