"""How kernels are compiled: without the GIL, and kept on disk where that can be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import event
from numba.extending import register_jitable

__all__ = ["compiled", "compiled_within", "when_compiling"]

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
