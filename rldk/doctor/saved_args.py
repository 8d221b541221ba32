"""What did a checkpoint's training_args.bin hold? Read without running, or importing, anything that it names.

The file is a pickle in a zip, as torch.save writes it. A pickle may call anything; here each name that it
asks for is a stand-in that remembers its name and what it was called with.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, Final, Self

from rldk.errors import SourceError
from rldk.health.checkpoints.pickles import BrokenError, record, unpickled

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "training_args.bin"

_MOST_BYTES: Final = 4 * 2**20
_INSTEAD: Final = "give a run's journal instead"
_UNREADABLE: Final = (OSError, RuntimeError, MemoryError, ValueError, zipfile.BadZipFile)
_UNKNOWN: Final = object()
_MOST_NAMES: Final = 1000
_MOST_VALUES: Final = 100_000
_DEEPEST: Final = 8


class _StandIn:
    """Whatever the pickle names: it takes what it is called with, and does nothing."""

    called = ""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        del kwargs
        made = super().__new__(cls)
        made.given = args
        made.state = None
        return made

    given: tuple[object, ...]
    state: object

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Names:
    """A class of stand-ins for each name that the pickle asks for."""

    def __init__(self) -> None:
        self._known: dict[str, type[_StandIn]] = {}

    def __call__(self, module: str, name: str) -> type[_StandIn]:
        called = f"{module}.{name}"
        if called not in self._known:
            if len(self._known) >= _MOST_NAMES:
                raise BrokenError("it names too much")
            self._known[called] = type("StandIn", (_StandIn,), {"called": called})
        return self._known[called]


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """Read the arguments of a training.

    Args:
        path: The file.

    Returns:
        The name of the arguments' class, such as `GRPOConfig`, and the arguments that are plain values.

    Raises:
        SourceError: It is no such file, or damaged, or holds more than arguments need.
    """
    try:
        return _read(path)
    except BrokenError as error:
        raise SourceError(str(path), str(error), _INSTEAD) from error
    except _UNREADABLE as error:
        raise SourceError(str(path), f"it cannot be read ({error})", _INSTEAD) from error


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        pickles = (each for each in archive.infolist() if each.filename.endswith("data.pkl"))
        if (info := next(pickles, None)) is None:
            raise BrokenError("it holds no pickle")
        found = unpickled(record(archive, info, _MOST_BYTES), _Names())
    if not isinstance(found, _StandIn) or not isinstance(found.state, dict):
        raise BrokenError("it holds no arguments of a training")
    return found.called.rpartition(".")[2], _Plain().arguments(found.state)


class _Plain:
    """Makes plain values of what was read, up to a limit: lists that hold each other stand for any number."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def arguments(self, told: dict[Any, Any]) -> dict[str, Any]:
        """Those that have a name and a plain value.

        Raises:
            BrokenError: They are too many.
        """
        named = {name: self._value(value) for name, value in told.items() if isinstance(name, str)}
        return {name: value for name, value in named.items() if value is not _UNKNOWN}

    def _value(self, value: object, depth: int = 0) -> object:
        """A plain value, and an enumeration's member as its value."""
        self._left -= 1
        if self._left < 0:
            raise BrokenError(f"its arguments hold more than {_MOST_VALUES:,} values")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, _StandIn):
            is_member = len(value.given) == 1 and value.state is None
            return self._value(value.given[0], depth + 1) if is_member and depth < _DEEPEST else _UNKNOWN
        if isinstance(value, list | tuple) and depth < _DEEPEST:
            return [each for item in value if (each := self._value(item, depth + 1)) is not _UNKNOWN]
        return _UNKNOWN
