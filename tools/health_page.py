# ruff: noqa: INP001 - tools/ holds scripts, no package
"""Which rules does RLDK bring along? Writes the table of them in docs/health.md.

`python tools/health_page.py` writes the table anew; a test fails where it was forgotten.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rldk.health.rules import built_in

if TYPE_CHECKING:
    from rldk.health.rule import Rule

PAGE: Final = Path(__file__).parents[1] / "docs" / "health.md"

_BEGIN: Final = "<!-- rules: begin; written by tools/health_page.py -->"
_END: Final = "<!-- rules: end -->"


def page(text: str) -> str:
    """The page with the table of the rules put in its place."""
    table = "\n\n".join(map(_told, built_in()))
    marked = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    return marked.sub(lambda _: f"{_BEGIN}\n\n{table}\n\n{_END}", text)


def _told(rule: Rule) -> str:
    """One rule: what it is about, when it fires, on what, and where that is from."""
    reads = ", ".join(f"`{name}`" + (f" ({unit})" if unit else "") for name, unit in rule.reads.items())
    also = ", ".join(f"`{name}`" for name in rule.looks_at if not name.startswith("gpu"))
    facts = {
        "Of": ", ".join(rule.trainers) or "any trainer",
        "Reads": reads or also or "every metric",
        "Fires": f"{_sentence(rule)} In {rule.persistence.hits} of {rule.persistence.points} points.",
        "Do": rule.advice[:1].upper() + rule.advice[1:] + ".",
        "Source": rule.source,
    }
    lines = [f"- {name}: {told}" for name, told in facts.items()]
    meaning = rule.meaning[:1].upper() + rule.meaning[1:]
    return "\n".join([f"### `{rule.name}`", "", f"{meaning}.", "", *lines])


def _sentence(rule: Rule) -> str:
    return " ".join((inspect.getdoc(type(rule).judge) or "").split())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
