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

        context = click.get_current_context()
        with warnings.catch_warnings():
            warnings.simplefilter("always", LabelQCWarning)
            warnings.showwarning = functools.partial(_print_warning, context, set())
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
    """Return an error or warning as one line, its arguments written as options."""
    from dask_labelqc.errors import LabelQCError, LabelQCWarning

    if not isinstance(error, LabelQCError | LabelQCWarning):
        named = "" if isinstance(error, Warning) else f"{type(error).__name__}: "
        return plain(f"{named}{error}")
    advice = "" if error.advice is None else f"; {_advice(error.advice)}"
    return plain(_with_options(error.message) + advice)


def plain(text: str) -> str:
    """Return text as one line without orders to the terminal."""
    from dask_labelqc.terminal import printable

    return printable(" ".join(text.split()))


def _option_names() -> dict[str, str]:
    """Return the options of the command that runs, by the names of their arguments in Python."""
    context = click.get_current_context()
    found = {str(p.name): p.opts[0] for p in context.command.params if isinstance(p, click.Option)}
    # What the commands make of several options, under the name of what they make.
    places = [name for name in ("scheduler", "scheduler_file") if context.params.get(name)]
    made = {"client": (places or ["workers"])[0], "n_jobs": "threads"}
    return {name: found[option] for name, option in made.items() if option in found} | found


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
        return name if value is ... else f"{name}={value!r}"
    if value is True or value is ...:
        return option
    if isinstance(value, Mapping):
        value = tuple(f"{key}={str(part).lower()}" for key, part in value.items())
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{option} {_value(part)}" for part in values)


def _value(value: Any) -> str:
    return "none" if value is False else shlex.quote(str(value))


def _print_warning(
    context: click.Context, said: set[str], message: Warning | str, *details: Any, **more: Any
) -> None:
    """Print a warning, in whatever thread it comes; once, though plan and job open the inputs."""
    with context.scope(cleanup=False):
        text = one_line(message) if isinstance(message, Warning) else plain(message)
    if text not in said:
        click.echo(f"Warning: {text}", err=True)
    said.add(text)


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
