"""Matplotlib, imported when a figure is drawn, and figures shown wherever there is a screen."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__all__ = ["pyplot", "show"]


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``.

    Raises
    ------
    ImportError
        It is not installed; the message is the line that installs it.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('figures need Matplotlib: pip install "dask-labelqc[plot]"') from error
    return plt


def show(figure: Any, **kwargs: Any) -> None:
    """Show a figure of pyplot, with the arguments of ``pyplot.show``, where there is a screen.

    Where there is none Matplotlib would warn of that, and keep the figure; it is closed instead,
    and can still be saved by whoever holds it.
    """
    plt, backends = pyplot(), import_module("matplotlib.backends")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is non-interactive")
        plt.show(**kwargs)
    screenless = backends.backend_registry.list_builtin(backends.BackendFilter.NON_INTERACTIVE)
    if plt.get_backend().lower() in screenless:
        plt.close(figure)
