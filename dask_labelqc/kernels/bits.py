"""The bits of a floating point number as an integer, inside of compiled code."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

__all__ = ["bits_of"]


@intrinsic
def bits_of(typing_context: Any, number: Any) -> Any:
    """Return the bits of a float32 as int32, of a float64 as int64; it costs nothing.

    Numbers that are not negative are in the order of their bits, and integers have minima, maxima
    and bitwise operators that the compiler turns into SIMD, whatever NaN there are.
    """
    result = {types.float32: types.int32, types.float64: types.int64}[number]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return result(number), generate
