"""What are the numbers of one tensor, and how far is it from what it was: piece by piece, in fixed memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np

from rldk.errors import SourceError
from rldk.health.checkpoints.decoding import FLOATS, decode
from rldk.health.checkpoints.tensors import BITS, Tensor, damaged, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import FileIO

    from numpy.typing import NDArray

    from rldk.health.checkpoints.decoding import Floats

PIECE: Final = 2**19
"""Bytes of the tensor that are held at a time, and as many of each that it is compared with."""

_ROW: Final = 4096  # so few at a time that BLAS does not share them among the cores, which are the training's
_SMALLEST: Final = 1e-30  # below this, squares of float32 may have vanished
_MIX: Final = 0x9E3779B97F4A7C15  # an odd number without a pattern, so that the order of the pieces counts
_MASK: Final = 2**64 - 1

_dots: Final[Callable[..., Any]] = getattr(np, "vecdot", lambda a, b: np.einsum("ij,ij->i", a, b))


class Source(Protocol):
    """Where the bytes of tensors come from."""

    def file(self, tensor: Tensor) -> FileIO:
        """The open file of a tensor."""


class Distance(msgspec.Struct):
    """How far a tensor is from what it was.

    Attributes:
        squares: Sum of the squares of what it was.
        difference: Sum of the squares of the difference.
        dead_rows: Rows that are all zero now and were not.
        is_same: Whether every bit is what it was.
    """

    squares: float = 0.0
    difference: float = 0.0
    dead_rows: int = 0
    is_same: bool = True


class Measured(msgspec.Struct):
    """The numbers of one tensor.

    Attributes:
        tensor: The tensor.
        squares: Sum of the squares of its numbers; of whole numbers 0.
        nonfinite: How many are NaN or infinite.
        zeros: How many are zero.
        checksum: Tells by its change that a bit has changed, whatever the type.
        distances: To what it was in each of the checkpoints that it was compared with; None where that
            has no such tensor.
        lost: Which of those checkpoints could not be read, and why.
    """

    tensor: Tensor
    squares: float = 0.0
    nonfinite: int = 0
    zeros: int = 0
    checksum: int = 0
    distances: list[Distance | None] = []
    lost: dict[int, str] = {}

    @property
    def is_weight(self) -> bool:
        """Whether its numbers are floating-point numbers."""
        return self.tensor.dtype in FLOATS

    @property
    def norm(self) -> float:
        """The square root of the sum of the squares of its numbers."""
        return math.sqrt(self.squares)

    @property
    def is_dead(self) -> bool:
        """Whether all of its numbers are zero."""
        return self.is_weight and 0 < self.tensor.elements == self.zeros


class Ruler:
    """Measures tensors one after the other, in the same memory.

    Args:
        pause: Called after each piece; may wait, or raise to end the work.
    """

    def __init__(self, pause: Callable[[], None] = lambda: None) -> None:
        self.bytes_read = 0
        self._pause = pause
        self._raw: dict[int, NDArray[np.uint8]] = {}
        self._numbers: dict[tuple[int, type], Floats] = {}
        self._is_zero = np.empty(0, np.bool_)

    def measure(
        self, tensor: Tensor, source: Source, earlier: Sequence[tuple[Tensor, Source] | None] = ()
    ) -> Measured:
        """Read a tensor once and compare it with what it was.

        Args:
            tensor: The tensor.
            source: Where its bytes are.
            earlier: The same tensor, of the same number of elements, in earlier checkpoints.

        Raises:
            SourceError: The file cannot be read, or has ended early.
        """
        told = Measured(tensor, distances=[each and Distance() for each in earlier])
        with np.errstate(all="ignore"):
            for start, count in _pieces(tensor):
                raw = self._read(0, tensor, source, start, count)
                told.checksum = (told.checksum * _MIX + _checksum(raw)) & _MASK
                if told.is_weight:
                    self._add(told, raw, earlier, start, count)
                self._pause()
        return told

    def nonfinite(self, tensor: Tensor, source: Source) -> bool:
        """Whether a tensor holds NaN or an infinity; reads no further than to the first piece that does.

        Raises:
            SourceError: The file cannot be read, or has ended early.
        """
        if tensor.dtype not in FLOATS:
            return False
        with np.errstate(all="ignore"):
            for start, count in _pieces(tensor):
                raw = self._read(0, tensor, source, start, count)
                numbers = self._decoded(0, raw, tensor, is_double=tensor.dtype == "F64")
                if not math.isfinite(_squares(numbers)) and _nonfinite(numbers):
                    return True
                self._pause()
        return False

    def _add(
        self,
        told: Measured,
        raw: NDArray[np.uint8],
        earlier: Sequence[tuple[Tensor, Source] | None],
        start: int,
        count: int,
    ) -> None:
        is_double = "F64" in (told.tensor.dtype, *(each[0].dtype for each in earlier if each))
        now = self._decoded(0, raw, told.tensor, is_double=is_double)
        squares = _squares(now)
        told.squares += squares
        told.nonfinite += 0 if math.isfinite(squares) else _nonfinite(now)
        is_zero = np.equal(now, 0, out=self._flags(len(now)))
        zeros = int(np.count_nonzero(is_zero))
        told.zeros += zeros
        columns = _columns(told.tensor)
        dead_rows = is_zero.reshape(-1, columns).all(axis=1) if columns and zeros >= columns else None
        for number, (each, distance) in enumerate(zip(earlier, told.distances, strict=True)):
            if each is None or distance is None:
                continue
            try:
                before_raw = self._read(number + 1, *each, start, count)
            except SourceError as error:  # deleted, or cut short, meanwhile
                told.lost[number] = str(error)
                told.distances[number] = None
                continue
            before = self._decoded(number + 1, before_raw, each[0], is_double=is_double)
            if dead_rows is not None:
                was_alive = before.reshape(-1, columns).any(axis=1)
                distance.dead_rows += int(np.count_nonzero(dead_rows & was_alive))
            distance.squares += _squares(before)
            difference = self._difference(now, before)
            distance.difference += difference
            if distance.is_same:  # a difference of 0 may be that of 0 and -0
                distance.is_same = not difference > 0 and np.array_equal(raw, before_raw)

    def _difference(self, now: Floats, before: Floats) -> float:
        return _squares(np.subtract(now, before, out=self._room(-1, now.dtype.type, len(now))))

    def _read(self, number: int, tensor: Tensor, source: Source, start: int, count: int) -> NDArray[np.uint8]:
        begin, end = (at * BITS[tensor.dtype] // 8 for at in (start, start + count))
        size = tensor.size - begin if start + count == tensor.elements else end - begin
        if len(self._raw.get(number, ())) < size:
            self._raw[number] = np.empty(size, np.uint8)
        raw = self._raw[number][:size]
        try:
            file = source.file(tensor)
            file.seek(tensor.offset + begin)
            done = 0
            while done < size and (got := file.readinto(raw.data[done:])):
                done += got
        except OSError as error:
            raise unreadable(tensor.path, error) from error
        if done < size:
            raise damaged(tensor.path, "it has become shorter while it was read")
        self.bytes_read += size
        return raw

    def _decoded(self, number: int, raw: NDArray[np.uint8], tensor: Tensor, *, is_double: bool) -> Floats:
        kind = np.float64 if is_double else np.float32
        return decode(raw, tensor.dtype, self._room(number, kind, 8 * len(raw) // BITS[tensor.dtype]))

    def _flags(self, count: int) -> NDArray[np.bool_]:
        if len(self._is_zero) < count:
            self._is_zero = np.empty(count, np.bool_)
        return self._is_zero[:count]

    def _room(self, number: int, kind: type, count: int) -> Floats:
        if len(self._numbers.get((number, kind), ())) < count:
            self._numbers[number, kind] = np.empty(count, kind)
        return self._numbers[number, kind][:count]


def _columns(tensor: Tensor) -> int:
    """How long a row is, which is all that belongs to one index of the first dimension; 0 without rows."""
    if len(tensor.shape) < 2 or tensor.order or not tensor.elements:  # noqa: PLR2004
        return 0
    columns = tensor.elements // tensor.shape[0]
    return columns if columns <= 2**20 else 0


def _pieces(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Begin and number of elements of each piece, which ends with a row where there are rows."""
    count = 8 * PIECE // BITS[tensor.dtype]
    columns = _columns(tensor)
    if columns:
        count = max(count // columns, 1) * columns
    for start in range(0, tensor.elements, count):
        yield start, min(count, tensor.elements - start)


def _checksum(raw: NDArray[np.uint8]) -> int:
    whole = len(raw) // 8 * 8
    words = int(np.add.reduce(raw[:whole].view("<u8")))
    return words + int.from_bytes(raw[whole:].tobytes(), "little")


def _squares(numbers: Floats) -> float:
    """The sum of the squares, as exact as float64; NaN or infinite only where a number is, or nearly so."""
    whole = len(numbers) // _ROW * _ROW
    body, rest = numbers[:whole].reshape(-1, _ROW), numbers[whole:]
    total = float(np.add.reduce(_dots(body, body), dtype=np.float64)) + float(np.dot(rest, rest))
    if numbers.dtype == np.float64 or (math.isfinite(total) and total > _SMALLEST) or not numbers.any():
        return total
    wide = numbers.astype(np.float64)  # float32 has overflowed, or its squares have vanished
    return _squares(wide)


def _nonfinite(numbers: Floats) -> int:
    return len(numbers) - int(np.count_nonzero(np.isfinite(numbers)))
