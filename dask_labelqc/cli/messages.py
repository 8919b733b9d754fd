"""What the commands say: errors and warnings as one line each, tables."""

from __future__ import annotations

import functools
import shlex
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dask_labelqc.errors import Advice
    from dask_labelqc.pipeline.report import Report

__all__ = ["finish", "one_line", "one_line_errors", "plain", "print_table"]

F = TypeVar("F", bound=Callable[..., Any])

PARTIAL = 3
"""Status of an audit that left something out; 1 is that of an error, 2 of a wrong command line."""


def one_line_errors(command: F) -> F:
    """Print errors and warnings as one line each; `--debug` lets the traceback through."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapper(*args: Any, debug: bool, **kwargs: Any) -> Any:
        from dask_labelqc.errors import LabelQCWarning

        with warnings.catch_warnings():
            warnings.simplefilter("always", LabelQCWarning)
            warnings.showwarning = _print_warning
            try:
                return command(*args, **kwargs)
            except (click.exceptions.Exit, click.ClickException):
                raise
            except Exception as error:
                if debug:
                    raise
                raise click.ClickException(one_line(error)) from error

    return wrapper  # type: ignore[return-value]


def one_line(error: Exception) -> str:
    """Return an error as one line, its arguments written as options."""
    from dask_labelqc.errors import LabelQCError

    if not isinstance(error, LabelQCError):
        return plain(f"{type(error).__name__}: {error}")
    advice = "" if error.advice is None else f"; {_advice(error.advice)}"
    return plain(_with_options(error.message) + advice)


def plain(text: str) -> str:
    """Return text as one line without orders to the terminal."""
    from dask_labelqc.terminal import printable

    return printable(" ".join(text.split()))


def _option_names() -> dict[str, str]:
    """Return the options of the command that runs, by the names of their arguments in Python."""
    parameters = click.get_current_context().command.params
    return {str(p.name): p.opts[0] for p in parameters if isinstance(p, click.Option)}


def _with_options(message: str) -> str:
    """Write the arguments that a message begins with as options."""
    names, options = message.split(": "), _option_names()
    for position, name in enumerate(names):
        said = [options.get(part, part) for part in name.split(", ")]
        if not all(part.isidentifier() or part in options.values() for part in said):
            break
        names[position] = ", ".join(said)
    return ": ".join(names)


def _advice(advice: Advice) -> str:
    return advice.told(functools.partial(_written, _option_names()))


def _written(options: dict[str, str], name: str, value: Any) -> str:
    """Write an argument as it is given on the command line, if this command has it."""
    if (option := options.get(name)) is None:
        return f"{name}={value!r}"
    if value is True:
        return option
    if isinstance(value, Mapping):
        value = tuple(f"{key}={str(part).lower()}" for key, part in value.items())
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{option} {shlex.quote(str(part))}" for part in values)


def _print_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    click.echo(f"Warning: {plain(str(message))}", err=True)


def finish(report: Report) -> None:
    """Print what was done, and leave with the status of an output that is not whole."""
    from dask_labelqc.pipeline.report import summary_of

    print_table(summary_of(report, _advice))
    if report.failures:
        raise click.exceptions.Exit(PARTIAL)


def print_table(rows: dict[str, str]) -> None:
    """Print names and values."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dask_labelqc.terminal import printable

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(printable(name)), Text(printable(value)))
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a path that is cut is of no use to whoever reads it
    console.print(table)
