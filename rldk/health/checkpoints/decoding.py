"""How do the bytes of each floating-point type become numbers? Pure."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

FLOATS: Final = frozenset(
    ("F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0")
)
"""The types whose numbers are weights; whole numbers are codes, masks and positions."""

# Exponent bits, bits behind them, and bias, by
# https://arxiv.org/abs/2209.05433 and https://arxiv.org/abs/2206.02915 (FNUZ: minus zero is the one NaN)
_SMALL: Final[dict[str, tuple[int, int, int]]] = {
    "F8_E5M2": (5, 2, 15),
    "F8_E4M3": (4, 3, 7),
    "F8_E5M2FNUZ": (5, 2, 16),
    "F8_E4M3FNUZ": (4, 3, 8),
    "F8_E8M0": (8, 0, 127),
}
_HALF_TO_SINGLE: Final = np.float32(2.0**112)  # the biases are 15 and 127


def decode(raw: NDArray[np.uint8], dtype: str, out: Floats) -> Floats:
    """Turn bytes into numbers.

    Args:
        raw: The bytes of `n` numbers, little-endian, aligned to their size.
        dtype: One of `FLOATS`.
        out: Where the numbers go, float32 or float64, shape `(n,)` or longer; F64 is to be float64.

    Returns:
        The numbers, shape `(n,)`: `out`, or `raw` itself where it is what is wanted already.
    """
    if dtype in {"F32", "F64"}:
        numbers: Floats = raw.view("<f4" if dtype == "F32" else "<f8")
        return numbers if numbers.dtype == out.dtype else _copied(numbers, out)
    if out.dtype == np.float64:
        return _copied(decode(raw, dtype, np.empty(len(raw), np.float32)), out)
    if dtype == "BF16":
        return _from_bfloat16(raw.view("<u2"), out)
    if dtype == "F16":
        return _from_half(raw.view("<u2"), out)
    numbers = out[: len(raw)]
    np.take(_table(dtype), raw, out=numbers, mode="clip")  # without a mode, numpy buffers `out`
    return numbers


def _copied(numbers: Floats, out: Floats) -> Floats:
    np.copyto(out[: len(numbers)], numbers)
    return out[: len(numbers)]


def _from_bfloat16(codes: NDArray[np.uint16], out: Floats) -> Floats:
    """A bfloat16 is the upper half of a float32."""
    numbers = out[: len(codes)]
    np.left_shift(codes, 16, out=numbers.view(np.uint32), dtype=np.uint32, casting="unsafe")
    return numbers


def _from_half(codes: NDArray[np.uint16], out: Floats) -> Floats:
    """Move the bits to where float32 has them and put the exponent right, ten times as fast as numpy casts.

    The shift leaves copies of the sign in three bits of the exponent, which are cleared.
    """
    numbers = out[: len(codes)]
    bits = numbers.view(np.int32)
    np.left_shift(codes.view(np.int16), 13, out=bits, dtype=np.int32, casting="unsafe")
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    np.multiply(numbers, _HALF_TO_SINGLE, out=numbers)
    if len(numbers) and np.abs(numbers).max() >= 2.0**16:  # where infinity and NaN have come to lie
        np.copyto(numbers, codes.view(np.float16))
    return numbers


@functools.cache
def _table(dtype: str) -> NDArray[np.float32]:
    return np.array([_small(code, dtype) for code in range(256)], np.float32)


def _small(code: int, dtype: str) -> float:
    exponent_bits, rest_bits, bias = _SMALL[dtype]
    if dtype == "F8_E8M0":
        return math.nan if code == 255 else 2.0 ** (code - bias)  # noqa: PLR2004
    sign = -1.0 if code >> 7 else 1.0
    exponent = (code >> rest_bits) & ((1 << exponent_bits) - 1)
    rest = code & ((1 << rest_bits) - 1)
    if dtype.endswith("FNUZ"):
        if code == 0x80:  # noqa: PLR2004
            return math.nan
    elif dtype == "F8_E5M2" and exponent == 31:  # noqa: PLR2004
        return math.nan if rest else sign * math.inf
    elif dtype == "F8_E4M3" and code & 0x7F == 0x7F:  # noqa: PLR2004
        return math.nan
    fraction = rest / (1 << rest_bits)
    return sign * ((1 + fraction) * 2.0 ** (exponent - bias) if exponent else fraction * 2.0 ** (1 - bias))
