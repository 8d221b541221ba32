"""How do letters look that would steer the terminal, forge a line, or hide? Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, what turns the direction of writing or has no width, half a pair, and ends of lines."""


_PERHAPS: Final = re.compile(r"[^ -~]")


def visible(text: str) -> str:
    r"""Give a text with what steers a terminal written out, as JSON spells it: `\n`, `\u001b`."""
    return text if text.isprintable() else _PERHAPS.sub(_spelled, text)


def _spelled(letter: re.Match[str]) -> str:
    return json.dumps(letter[0])[1:-1] if unicodedata.category(letter[0]) in _UNSEEN else letter[0]
