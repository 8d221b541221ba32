"""What the tests of the documentation share: the pages, and how links, blocks and commands are found."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
_OTHERS = [
    path for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY") if (path := ROOT / f"{name}.md").exists()
]
PAGES = sorted({*(ROOT / "docs").glob("*.md"), README, *_OTHERS})
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
_LINK = re.compile(r"\]\(<?([^()\s>]+)>?\)|<(https?://[^>\s]+)>")
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    line: int
    language: str
    code: str


@cache
def text_of(page):
    """A page's text."""
    return page.read_text(encoding="utf-8")


def blocks(*languages):
    """All blocks of these languages in all pages."""
    return [
        Block(
            page.name,
            text_of(page).count("\n", 0, m.start()) + 1,
            m["language"],
            _flush(m["code"], m["indent"]),
        )
        for page in PAGES
        for m in _BLOCK.finditer(text_of(page))
        if m["language"] in languages
    ]


def prose(page):
    """A page without its blocks."""
    return _BLOCK.sub("", text_of(page))


def links(page):
    """Every target of a link or picture of a page."""
    without_code = _SPAN.sub("", prose(page))
    return [first or second for first, second in _LINK.findall(without_code)]


def spans(page):
    """Every piece of code within a page's sentences."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(page))]


@cache
def anchors(page):
    """The anchors of a page's headings, as GitHub and the built site name them."""
    seen = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        if seen[slug]:
            seen[f"{slug}-{seen[slug]}"] = 0
    return set(seen)


def commands():
    """Every `rldk ...` that a page tells people to type: `(page, words)`. The changelog tells of old ones."""
    found = []
    for block in blocks("bash", "sh", "shell", "console"):
        for line in block.code.replace("\\\n", " ").splitlines():
            found += [(block.page, words) for words in _commands(line)]
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        found += [
            (page.name, words)
            for span in spans(page)
            if span.startswith("rldk ")
            for words in _commands(span)
        ]
    return found


def _commands(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation goes on in the next line: no command of RLDK does
        return
    command = []
    for word in [*words, ";"]:
        if set(word) <= set("|&;<>"):
            if "rldk" in command:
                yield command[command.index("rldk") + 1 :]
            command = []
        else:
            command.append(word)


def _flush(code, indent):
    return re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
