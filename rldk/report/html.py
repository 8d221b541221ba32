"""How is a value written into the page: escaped, short, with its unit. Pure."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any, Final

from rldk.event import non_finite_name, utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NONE: Final = "\N{EN DASH}"
"""Stands where there is no value."""

_BYTES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_KIB: Final = 1024
_MOST_LETTERS: Final = 4000
_MOST_EVIDENCE: Final = 20
_UNPRINTABLE: Final = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), "\N{REPLACEMENT CHARACTER}")


def esc(value: object) -> str:
    """Write any text so that it is nothing but text, also inside an attribute's quotes."""
    text = utf8(str(value)).translate(_UNPRINTABLE)
    return html.escape(text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …")


def number(value: object) -> str:
    """Write a number with the digits that tell something; a dash for None."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return NONE if value is None else esc(value)
    if isinstance(value, int) and abs(value) < 10**15:
        return f"{value:,}"
    try:
        value = float(value)
    except OverflowError:
        return f"{str(value)[:8]}…"
    if not math.isfinite(value):
        return non_finite_name(value)
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"  # noqa: PLR2004  # beyond, 1.2e+07 is easier to read


def quantity(value: float | str | None, unit: str) -> str:
    """Write a number with its unit: bytes as MiB and the like, fractions as they are."""
    if isinstance(value, int | float) and math.isfinite(value) and unit.startswith("bytes"):
        return size(value) + unit.removeprefix("bytes")
    shown = unit if unit not in {"1", "fraction"} else ""
    return f"{number(value)} {esc(shown)}".rstrip()


def size(count: float) -> str:
    """Write a count of bytes."""
    power = min(int(math.log(abs(count), _KIB)) if abs(count) >= 1 else 0, len(_BYTES) - 1)
    return f"{count / _KIB**power:,.{1 if power else 0}f} {_BYTES[power]}"


def mark(word: str, kind: str) -> str:
    """Write a word in a coloured frame."""
    return f'<span class="mark {esc(kind)}">{esc(word)}</span>'


def link(source: str) -> str:
    """Write where something comes from: a link where it is an address of the web, else a text."""
    if source.startswith(("https://", "http://")) and not set(source) & set(" \t\n\"'<>`"):
        return f'<a href="{esc(source)}" rel="noopener noreferrer" target="_blank">{esc(source)}</a>'
    return esc(source)


def evidence(told: dict[str, Any]) -> str:
    """Write a rule's numbers."""
    cells = []
    for name, value in list(told.items())[:_MOST_EVIDENCE]:
        shown = number(value) if isinstance(value, int | float) else esc(_text(value))
        cells.append(f"<span>{esc(str(name).replace('_', ' '))} <b>{shown}</b></span>")
    return f'<div class="evidence">{"".join(cells)}</div>' if cells else ""


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, stacked: bool = False) -> str:
    """Write a table of cells that are HTML already; those of heads that end in `#` are numbers.

    Args:
        heads: What stands above each column.
        rows: Their cells.
        stacked: Whether a narrow page shows each row as a paragraph, for cells with much text.
    """
    kinds = [' class="number"' if head.endswith("#") else "" for head in heads]
    names = [esc(head.removesuffix("#")) for head in heads]
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-name="{name}">{cell}</td>'
            for kind, name, cell in zip(kinds, names, row, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    kind = ' class="stack"' if stacked else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )
