"""How is a pickle read without running what it asks for, and without taking more than its length is worth?

A pickle is a program: it names functions, calls them, and can have a few bytes stand for a million. What it
names is given by whoever reads it; what it does with that is counted here.
"""

from __future__ import annotations

import io
import pickle  # the reader below calls nothing by itself
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Final

from rldk.health.checkpoints.tensors import shown

if TYPE_CHECKING:
    from collections.abc import Callable

# What a broken pickle can raise, for its opcodes meet values that they are not for
_BROKEN: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
    struct.error,
)
_USES_PER_BYTE: Final = 2
_LEAST_USES: Final = 1000
_LARGEST_KEY: Final = 2**60  # beyond it different numbers have one hash


class BrokenError(Exception):
    """Why a pickle, or the record that it is in, cannot be read."""


def record(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most_bytes: int) -> bytes:
    """Read a record of an archive as torch.save writes it: whole, and not packed.

    Raises:
        BrokenError: It is packed, and may unpack to anything, or longer than may be, or damaged.
    """
    if info.file_size > most_bytes or info.compress_type != zipfile.ZIP_STORED:
        raise BrokenError(f"its {shown(info.filename)} is packed, or too long")
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:  # RuntimeError: a password
        raise BrokenError(f"its {shown(info.filename)} cannot be read ({error})") from error


def unpickled(
    data: bytes, named: Callable[[str, str], Any], stored: Callable[[Any], Any] = lambda _: None
) -> object:
    """Read a pickle, in time and memory that grow with its length alone.

    Args:
        data: The pickle.
        named: Gives a stand-in for what the pickle names by module and name; what this one raises goes on to
            the caller, unless it is what a broken pickle can raise.
        stored: Gives a stand-in for what the pickle says to be stored elsewhere.

    Raises:
        BrokenError: It is broken, or uses its values more often than its length is worth.
    """
    try:
        return _Reader(data, named, stored).load()
    except _BROKEN as error:
        raise BrokenError(f"its pickle cannot be read ({error})") from error


class _Reader(pickle._Unpickler):  # noqa: SLF001
    """The reader in Python: the one in C sets aside as much memory as the number of a memo asks for."""

    stack: list[Any]
    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012, SLF001  # as the base class has it

    def __init__(self, data: bytes, named: Callable[[str, str], Any], stored: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._named = named
        self._stored = stored
        self._left = max(_LEAST_USES, _USES_PER_BYTE * len(data))

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # a stand-in
        return self._named(module, name)

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401  # a stand-in
        return self._stored(pid)

    def use(self, arguments: list[Any]) -> None:
        """Count what a call is given: a call copies it, and what the pickle tells once can be given often."""
        self._count(sum(len(each) for each in arguments))

    def use_keys(self, keys: list[Any]) -> None:
        """Count what is hashed with keys: to hash a tuple is to hash all that is in it, shared or not."""
        if any(isinstance(key, int) and abs(key) > _LARGEST_KEY for key in keys):
            raise pickle.UnpicklingError("a key is too large a number")
        waiting = [key for key in keys if isinstance(key, tuple)]
        while waiting:
            members = waiting.pop()
            self._count(len(members) + 1)
            waiting += [each for each in members if isinstance(each, tuple)]

    def _count(self, uses: int) -> None:
        self._left -= uses
        if self._left < 0:
            raise pickle.UnpicklingError("it uses its values more often than its length is worth")


def _refuse(_: object) -> None:
    raise pickle.UnpicklingError("it holds what torch.save does not write")


def _counting(code: bytes, count: Callable[[_Reader], None]) -> Callable[[Any], None]:
    load: Callable[[Any], None] = pickle._Unpickler.dispatch[code[0]]  # noqa: SLF001

    def count_and_load(reader: _Reader) -> None:
        count(reader)
        load(reader)

    return count_and_load


_COUNTED: Final[dict[bytes, Callable[[_Reader], None]]] = {
    pickle.SETITEM: lambda reader: reader.use_keys(reader.stack[-2:-1]),
    pickle.SETITEMS: lambda reader: reader.use_keys(reader.stack[::2]),
    pickle.DICT: lambda reader: reader.use_keys(reader.stack[::2]),
    pickle.ADDITEMS: lambda reader: reader.use_keys(reader.stack),
    pickle.FROZENSET: lambda reader: reader.use_keys(reader.stack),
    pickle.REDUCE: lambda reader: reader.use(reader.stack[-1:]),
    pickle.NEWOBJ: lambda reader: reader.use(reader.stack[-1:]),
    pickle.NEWOBJ_EX: lambda reader: reader.use(reader.stack[-2:]),
}
_Reader.dispatch.update({code[0]: _counting(code, count) for code, count in _COUNTED.items()})
# The first sets aside as much memory as it is told to; the second can number its memo so that all collide
_Reader.dispatch.update({code[0]: _refuse for code in (pickle.BYTEARRAY8, pickle.PUT)})
