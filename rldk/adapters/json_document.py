"""How is a large JSON document read piece by piece: its members, and the elements of its arrays."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE: Final = 256 * 2**10
_LONGEST: Final = 16 * 2**20
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_scan: Final[Callable[[str, int], tuple[Any, int]]] = json.JSONDecoder().raw_decode


class DocumentError(ValueError):
    """A document that is not JSON, is cut off, or holds a single value that is too large."""


class Document:
    """A JSON document that is read forward, once; NaN and the infinities may be bare, as Python writes them.

    Memory is bounded by one value of 16 MiB. Every method raises DocumentError where the document is none,
    and what reading the file raises.

    Args:
        file: The document, in UTF-8.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text = ""
        self._pos = 0
        self._is_whole = False

    def opening(self) -> str:
        """Look at what comes next: its first character; empty at the end."""
        self._pos = self._space()
        return self._text[self._pos : self._pos + 1]

    def keys(self) -> Iterator[str]:
        """Go through the members of an object; the value of each must be read before the next one."""
        self._take("{")
        if self.opening() == "}":
            self._take("}")
            return
        while True:
            key = self.value()
            self._take(":")
            if not isinstance(key, str):
                raise DocumentError("a key is no text")
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[Any]:
        """Read the elements of an array, one at a time."""
        self._take("[")
        if self.opening() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def value(self) -> Any:  # noqa: ANN401  # any JSON value
        """Read one value as a whole."""
        start = self._space()
        while True:
            try:
                found, end = _scan(self._text, start)
            except (ValueError, RecursionError) as error:
                if not isinstance(error, json.JSONDecodeError) or not self._more(start):
                    raise DocumentError(str(error)) from error
            else:
                if end < len(self._text) or not self._more(start):  # a number may go on in the next piece
                    self._pos = end
                    return found
            start = self._pos

    def end(self) -> None:
        """Make sure that nothing comes after."""
        if self.opening():
            raise DocumentError("there is something behind its end")

    def _take(self, allowed: str) -> str:
        found = self.opening()
        if not found:
            raise DocumentError("it is cut off" if self._file.tell() else "it is empty")
        if found not in allowed:
            raise DocumentError(f"{' or '.join(allowed)} should stand where {found} is")
        self._pos += 1
        return found

    def _space(self) -> int:
        while True:
            found = _SPACE.match(self._text, self._pos)
            self._pos = found.end() if found else self._pos
            if self._pos < len(self._text) or not self._more(self._pos):
                return self._pos

    def _more(self, start: int) -> bool:
        """Read on, and forget what comes before `start`; False at the end."""
        held = len(self._text) - start
        if held > _LONGEST:
            raise DocumentError(f"one value is larger than {_LONGEST >> 20} MiB")
        piece = "" if self._is_whole else self._decoder.decode(self._file.read(max(_PIECE, held)))
        self._is_whole = not piece
        self._text = self._text[start:] + piece
        self._pos = 0
        return bool(piece)
