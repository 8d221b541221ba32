"""What is a source that no adapter recognises: what is wrong with the file, and what to do?"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from rldk.adapters import limits

if TYPE_CHECKING:
    from pathlib import Path

LISTED: Final = "docs/sources.md lists what can be read"
_GIVE: Final = f"give a run's own file or folder; {LISTED}"
_AGAIN: Final = "copy or write it again"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SQLITE: Final = (b"SQLite format 3\0", "an SQLite database")
_MARKS: Final = {
    ".db": _SQLITE,
    ".sqlite": _SQLITE,
    ".sqlite3": _SQLITE,
    ".parquet": (b"PAR1", "a Parquet file"),
    ".wandb": (b":W&B", "a W&B record"),
}
_TABLES: Final = (".csv", ".tsv")
_MOST: Final = 2**20


class Why(NamedTuple):
    """Why nobody recognises it, and what to do about that."""

    reason: str
    remedy: str


def why(path: Path) -> Why:
    """Say what a file or folder is that no adapter recognises."""
    try:
        if path.is_dir():
            what = "a folder that holds no run" if next(path.iterdir(), None) else "an empty folder"
            return Why(f"it is {what}", _GIVE)
        if not path.is_file():
            return Why("it is no regular file", _GIVE)
        with path.open("rb") as file:
            begins = file.read(16)
    except OSError as error:
        return Why(error.strerror or str(error), "check its permissions")
    if not begins:
        return Why("it is empty", "check that what writes it has run")
    return _of_a_kind(path, begins) or _of_content(path)


def _of_a_kind(path: Path, begins: bytes) -> Why | None:
    """Of a file whose name promises more than text."""
    mark, kind = _MARKS.get(path.suffix, (b"", ""))
    if mark and not begins.startswith(mark):
        return Why(f"it is not {kind}, though it is called like one", _AGAIN)
    if begins.startswith(_SQLITE[0]):
        return Why("it is an SQLite database without the tables of MLflow", _GIVE)
    return None


def _of_content(path: Path) -> Why:
    head = limits.head(path, _MOST)
    if not head:
        return Why("it is compressed, and damaged or cut off", _AGAIN)
    if head.startswith(_UTF16):
        return Why("it is UTF-16 text, not UTF-8", "save it as UTF-8")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return Why("it is not UTF-8 text, nor anything else that is known", LISTED)
    return _of_text(text.lstrip(), path, is_whole=len(head) < _MOST)


def _of_text(text: str, path: Path, *, is_whole: bool) -> Why:
    suffixes = path.suffixes
    if text.startswith(("{", "[")):
        if is_whole and not (_is_json(text.partition("\n")[0]) or _is_json(text)):
            return Why("its JSON is malformed, or was not written to its end", _AGAIN)
        return Why("it is JSON, but holds no step with numbers", LISTED)
    if ".jsonl" in suffixes or ".json" in suffixes:
        return Why("its first line is no JSON object", LISTED)
    if any(suffix in _TABLES for suffix in suffixes):
        return Why("its first line names no column that is a step", "rename the one that is to 'step'")
    return Why("it is text of no known layout", LISTED)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
