"""What does a .bin of torch.save hold: its tensors, found without running what it asks for.

Such a file is a zip with a pickle in it. A pickle may call anything; this reader lets it call nothing but
the few names that tensors are made of, and puts stand-ins that only remember in their place, as
`torch.load(weights_only=True)` does with the real ones. The bytes are not mapped into memory, for the
reason that safetensors.py tells. The format: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import pickle  # for its error alone
import zipfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rldk.errors import SourceError
from rldk.health.checkpoints.pickles import BrokenError, record, unpickled
from rldk.health.checkpoints.tensors import BITS, MOST_TENSORS, Tensor, checked_shape, damaged, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_LONGEST_PICKLE: Final = 100_000_000
_MOST_DIMENSIONS: Final = 1000
_LOCAL_HEADER: Final = 30
_PICKLE: Final = "data.pkl"

_DTYPES: Final[dict[str, str]] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
}
_STORAGES: Final[dict[str, str]] = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
}


class _Dtype(NamedTuple):
    name: str


class _Storage(NamedTuple):
    dtype: str  # empty for one without a type
    key: str


class _Found(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class _Maker(NamedTuple):
    """A stand-in for what makes a tensor; nothing can be set on it, as it could on a function."""

    make: Callable[..., object]

    def __call__(self, *args: Any) -> object:  # noqa: ANN401  # whatever the pickle gives
        return self.make(*args)


class _Table(dict[Any, Any]):
    """A dictionary that takes what a pickle sets on it, as an OrderedDict does, and forgets it."""

    def __setstate__(self, state: object) -> None:
        del state


class _UnknownError(Exception):
    """What the pickle asks for, and this reader has not."""


def tensors(path: Path) -> list[Tensor]:
    """Find the tensors of a file, in the order of their bytes.

    Raises:
        SourceError: It is no such file, is damaged, or asks for more than tensors.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            reason = "it is no zip, as torch.save writes since 1.6, or was not written to its end"
            raise SourceError(str(path), reason, "save it again") from error
        with archive:
            records = {each.filename: each for each in archive.infolist()}
            root = _root(path, records)
            told, order = _read(path, archive, root, records)
            if order != b"little":
                raise SourceError(str(path), "its bytes are in the order 'big'", "save it as safetensors")
            found = [_tensor(path, name, each, file, records, root) for name, each in _named(told)]
    if len(found) > MOST_TENSORS:
        raise SourceError(str(path), f"it holds {len(found):,} tensors", f"{MOST_TENSORS:,} are the most")
    return sorted(found, key=lambda tensor: (tensor.offset, tensor.size))


def _root(path: Path, records: Iterable[str]) -> str:
    """The folder in the zip, whose name is that of the file when it was saved."""
    for name in records:
        if name.endswith(_PICKLE) and name.count("/") <= 1:
            return name.removesuffix(_PICKLE)
    raise SourceError(str(path), "it is a zip without a data.pkl", "give what torch.save has written")


def _read(
    path: Path, archive: zipfile.ZipFile, root: str, records: dict[str, zipfile.ZipInfo]
) -> tuple[object, bytes]:
    """What the pickle holds, and the order of the bytes in the file."""
    order = records.get(f"{root}byteorder")
    try:
        told = unpickled(record(archive, records[f"{root}{_PICKLE}"], _LONGEST_PICKLE), _stand_in, _storage)
        return told, b"little" if order is None else record(archive, order, _LONGEST_PICKLE)
    except _UnknownError as error:
        reason = f"its pickle asks for {error}, which is no part of weights: it may run code, and is not read"
        raise SourceError(str(path), reason, "save the weights as safetensors") from error
    except BrokenError as error:
        raise damaged(path, str(error)) from error


def _stand_in(module: str, name: str) -> Any:  # noqa: ANN401  # one of the stand-ins
    if (module, name) in _STAND_INS:
        return _STAND_INS[module, name]
    if module == "torch" and name in _STORAGES:
        return _Dtype(_STORAGES[name])
    if module == "torch" and name in _DTYPES:
        return _Dtype(_DTYPES[name])
    raise _UnknownError(shown(f"{module}.{name}"))


def _storage(pid: Any) -> _Storage:  # noqa: ANN401  # whatever the pickle says
    kind, dtype, key, _place, _length = pid
    if kind != "storage" or not isinstance(dtype, _Dtype) or not isinstance(key, str):
        raise pickle.UnpicklingError("a storage is not described as torch does")
    return _Storage(dtype.name, key)


def _found(storage: object, offset: object, shape: object, strides: object, dtype: object) -> _Found:
    if not isinstance(storage, _Storage) or not isinstance(dtype, str) or not dtype:
        raise pickle.UnpicklingError("a tensor is not described as torch does")
    (begin,) = _whole((offset,))
    return _Found(storage, begin, _whole(shape), _whole(strides), dtype)


def _whole(values: Any) -> tuple[int, ...]:  # noqa: ANN401  # whatever the pickle gives
    if not isinstance(values, tuple) or len(values) > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError("a shape is none")
    if not all(isinstance(n, int) and n >= 0 for n in values):
        raise pickle.UnpicklingError("a shape is none")
    return values


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> _Found:  # noqa: ANN401
    return _found(storage, offset, shape, strides, storage.dtype)


def _tensor_v3(*args: Any) -> _Found:  # noqa: ANN401
    storage, offset, shape, strides, _grad, _hooks, dtype = args[:7]
    return _found(storage, offset, shape, strides, dtype.name)


def _table() -> _Table:
    return _Table()  # torch fills it afterwards; from a list it would be filled as often as it is asked for


def _parameter(data: object, *_: object) -> object:
    return data


_STAND_INS: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): _Maker(_table),
    ("torch", "Size"): _Maker(_whole),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor_v2),
    ("torch._utils", "_rebuild_tensor_v3"): _Maker(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Maker(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Maker(_parameter),
    ("torch.storage", "UntypedStorage"): _Dtype(""),
}


def _named(told: object) -> Iterator[tuple[str, _Found]]:
    """Find the tensors in dictionaries of dictionaries; other values, such as versions, are passed over."""
    waiting, seen = [("", told)], set()
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, _Found):
            yield prefix, value
        elif isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))  # one that holds itself is met once
            inner = [(f"{prefix}.{name}" if prefix else str(name), each) for name, each in value.items()]
            waiting += reversed(inner)  # so that of tied weights the first name counts


def _tensor(
    path: Path, name: str, found: _Found, file: BinaryIO, records: dict[str, zipfile.ZipInfo], root: str
) -> Tensor:
    info = records.get(f"{root}data/{found.storage.key}")
    if info is None or info.compress_type != zipfile.ZIP_STORED:
        raise damaged(path, f"the bytes of {shown(name)} are not in it")
    shape = checked_shape(found.shape, path, name)
    order = _order(shape, found.strides)
    if order is None:
        reason = f"{shown(name)} is a view that leaves gaps in its bytes, or uses them twice"
        raise SourceError(str(path), reason, "save the weights as safetensors")
    begin = found.offset * BITS[found.dtype] // 8
    tensor = Tensor(name, found.dtype, shape, path, _begin(path, file, info) + begin, order)
    if begin + tensor.size > info.file_size:
        raise damaged(path, f"{shown(name)} is larger than its storage")
    return tensor


def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides where they are not the usual ones; None where they leave gaps, or use bytes twice."""
    if len(shape) != len(strides):
        return None
    seen = [(stride, size) for stride, size in zip(strides, shape, strict=True) if size != 1]
    expected = 1
    for stride, size in sorted(seen):
        if stride != expected and 0 not in shape:
            return None
        expected *= size
    return strides if seen != sorted(seen, reverse=True) and 0 not in shape else ()


def _begin(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a record begin: behind its own header, whose length only it tells."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\3\4"):
        raise damaged(path, f"its {shown(info.filename)} is not where it should be")
    return (
        info.header_offset
        + _LOCAL_HEADER
        + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    )
