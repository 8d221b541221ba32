"""Is a text an expression at all, and where is it not?"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final, NoReturn

from rldk.errors import RuleError
from rldk.health.operands import SIGNATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST: Final = 1000
_LONGEST_NUMBER: Final = 20
_DEEPEST: Final = 64
_SHOWN: Final = 60

_TOKEN: Final = re.compile(
    r"""\ +|"[^"\\]*"|'[^'\\]*'|[A-Za-z_][A-Za-z0-9_]*(?!["'])"""
    r"""|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])|\*\*|[<>=!]=|[-+*/()<>,]"""
)
_WRONG: Final[Mapping[str, str]] = {
    ".": 'attributes cannot be used; write metric("...") for a name with a point',
    "[": "lists and subscripts cannot be used",
    "{": "sets and formats cannot be used",
    "=": "to compare, write ==",
    ":": "':' cannot be used",
    "\\": "a backslash cannot be used",
    "&": "write and",
    "|": "write or",
    "!": "write not, or !=",
    '"': "this text does not end",
    "'": "this text does not end",
}

_ALLOWED: Final = (
    "allowed are numbers, names of metrics, + - * / **, < <= > >= == !=, and, or, not, parentheses and "
    f"{', '.join(SIGNATURES.values())}"
)


def tree(line: str, where: str) -> ast.expr:
    """Parse an expression of nothing but known tokens; none of it is run.

    Raises:
        RuleError: It is none.
    """
    if not line or len(line) > _LONGEST:
        raise RuleError(where, f"an expression has 1 to {_LONGEST} characters, this one has {len(line)}")
    _check_tokens(line, where)
    try:
        return ast.parse(line, mode="eval").body
    except SyntaxError as error:
        at = min(error.offset - 1 if error.offset else len(line), len(line) - 1)  # 0 is beyond the end
        refuse(line, where, at, at + 1, f"this cannot be read ({error.msg})")
    except (ValueError, RecursionError, MemoryError):
        raise RuleError(where, "the expression is nested too deeply") from None


def _check_tokens(line: str, where: str) -> None:
    at = depth = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:
            refuse(line, where, at, at + 1, _wrong(line, at))
        token = found.group()
        if token[0] in "0123456789." and len(token) > _LONGEST_NUMBER:
            refuse(line, where, at, found.end(), f"a number has at most {_LONGEST_NUMBER} characters")
        if not token.isprintable():
            refuse(line, where, at, found.end(), "this holds characters that cannot be printed")
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth > _DEEPEST:
            refuse(line, where, at, at + 1, f"parentheses are nested deeper than {_DEEPEST}")
        at = found.end()


def _wrong(line: str, at: int) -> str:
    if line[at].isascii() and (line[at].isalpha() or line[at] == "_"):
        return "f-strings and the like cannot be used"
    if line[at].isdigit():
        return "this is no number"
    return _WRONG.get(line[at], f"{line[at]!r} cannot be used")


def refuse(line: str, where: str, start: int, end: int, why: str) -> NoReturn:
    """Tell what is wrong, with a caret below the place.

    Raises:
        RuleError: Always.
    """
    first = max(0, min(start - _SHOWN // 2, len(line) - _SHOWN))
    shown = line[first : first + _SHOWN]
    before = "..." if first else ""
    after = "..." if first + _SHOWN < len(line) else ""
    carets = "^" * max(1, min(end, first + len(shown)) - start)
    space = " " * (len(before) + start - first)
    visible = "".join(character if character.isprintable() else "?" for character in shown)
    raise RuleError(where, f"{why}\n    {before}{visible}{after}\n    {space}{carets}\n{_ALLOWED}")
