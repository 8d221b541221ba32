"""What did a checkpoint's training_args.bin hold? Read without running, or importing, anything that it names.

The file is a pickle in a zip, as torch.save writes it. A pickle may call anything; here each name that it
asks for is a stand-in that remembers its name and what it was called with.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Final, Self

from rldk.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "training_args.bin"

_MOST_BYTES: Final = 4 * 2**20
_MOST_NAMES: Final = 1000
_DEEPEST: Final = 8
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
    zipfile.BadZipFile,
    OSError,
)


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


class _Reader(pickle._Unpickler):  # noqa: SLF001  # the reader in Python bounds its memo
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: dict[str, type[_StandIn]] = {}

    def find_class(self, module: str, name: str) -> type[_StandIn]:
        called = f"{module}.{name}"
        if called not in self._known:
            if len(self._known) >= _MOST_NAMES:
                raise pickle.UnpicklingError("it names too much")
            self._known[called] = type("StandIn", (_StandIn,), {"called": called})
        return self._known[called]

    def persistent_load(self, pid: object) -> None:
        """Storages of tensors are no arguments."""
        del pid


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """Read the arguments of a training.

    Args:
        path: The file.

    Returns:
        The name of the arguments' class, such as `GRPOConfig`, and the arguments that are plain values.

    Raises:
        SourceError: It is no such file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            record = next(each for each in archive.infolist() if each.filename.endswith("data.pkl"))
            if record.file_size > _MOST_BYTES:
                raise SourceError(
                    str(path), f"its pickle is larger than {_MOST_BYTES >> 20} MiB", "give a run instead"
                )
            found = _Reader(io.BytesIO(archive.read(record))).load()
    except StopIteration as error:
        raise SourceError(str(path), "it holds no pickle", "give a run's journal instead") from error
    except _BROKEN as error:
        raise SourceError(
            str(path), f"it cannot be read ({error})", "give a run's journal instead"
        ) from error
    if not isinstance(found, _StandIn) or not isinstance(found.state, dict):
        raise SourceError(str(path), "it holds no arguments of a training", "give a run's journal instead")
    plain = {str(name): _plain(value) for name, value in found.state.items()}
    return found.called.rpartition(".")[2], {
        name: value for name, value in plain.items() if value is not _UNKNOWN
    }


_UNKNOWN: Final = object()


def _plain(value: object, depth: int = 0) -> object:
    """A plain value, and an enumeration's member as its value."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, _StandIn):
        is_member = len(value.given) == 1 and value.state is None
        return _plain(value.given[0], depth + 1) if is_member and depth < _DEEPEST else _UNKNOWN
    if isinstance(value, list | tuple) and depth < _DEEPEST:
        return [each for each in (_plain(item, depth + 1) for item in value) if each is not _UNKNOWN]
    return _UNKNOWN
