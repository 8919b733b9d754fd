"""How kernels are compiled: without the GIL, and kept on disk where that can be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba import types
from numba.core import event
from numba.extending import intrinsic, register_jitable

__all__ = ["bits_of", "compiled", "compiled_within", "when_compiling"]

DEFAULTS = {"nogil": True, "error_model": "numpy"}
UNWRAPPED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile a function of plain arrays when it is first called; a decorator.

    What is compiled is kept beside the source file, or in ``NUMBA_CACHE_DIR``, or in the user's
    cache folder, whichever can be written first. Where none can, each process compiles for itself.

    Parameters
    ----------
    function
        The kernel; without one a decorator is returned.
    **options
        Of ``numba.njit``; by default ``nogil=True`` and ``error_model="numpy"``.

    Examples
    --------
    >>> @compiled
    ... def half(x):
    ...     return x / 2
    >>> half(3)
    1.5
    """
    if function is None:
        return lambda later: compiled(later, **options)
    options = DEFAULTS | options
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**options)(function)


def compiled_within(function: Callable[..., Any]) -> Any:
    """Compile a function for the kernels that call it; a decorator.

    It has no entry for Python, which calls the function as it is written: to take the arguments
    from Python is up to half of what there is to compile.

    Examples
    --------
    >>> @compiled_within
    ... def half(x):
    ...     return x / 2
    >>> @compiled
    ... def quarter(x):
    ...     return half(half(x))
    >>> half(3), quarter(3)
    (1.5, 0.75)
    """
    return register_jitable(**DEFAULTS, **UNWRAPPED)(function)


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


class _Once(event.Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._told = tell, False

    def on_start(self, event: Any) -> None:
        kernel = event.data["dispatcher"].py_func.__module__
        if not self._told and kernel.startswith("dask_labelqc."):
            self._told = True
            self._tell()

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell`, once, when a kernel of the package is compiled; not when one is loaded."""
    with event.install_listener("numba:compile", _Once(tell)):
        yield
