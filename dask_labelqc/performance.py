"""Dask's report of how a cluster spent its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from distributed import Client, performance_report

from dask_labelqc.errors import InputError, OutputError, advise

__all__ = ["report_performance"]


@contextmanager
def report_performance(client: Client | None, file: str | Path | None) -> Iterator[None]:
    """Write Dask's performance report of what a cluster does inside the ``with`` block.

    Parameters
    ----------
    client
        Of the cluster, Dask's default client.
    file
        Path or URL of the HTML to write, also after an error; nothing is done without one.

    Raises
    ------
    InputError
        There is no cluster, or its scheduler lacks Bokeh.
    OutputError
        The file cannot be written; said before anything is run.
    """
    if file is None:
        yield
        return
    if client is None:
        raise InputError(
            f"performance_report: {str(file)!r} is made by a cluster's scheduler, and threads of "
            "this process have none",
            advise("{workers} or more make a cluster", workers=1),
        )
    try:
        client.run_on_scheduler(version, "bokeh")
    except PackageNotFoundError as error:
        raise InputError(
            "performance_report: the scheduler draws it with Bokeh, which it lacks: "
            'pip install "dask-labelqc[dashboard]"'
        ) from error
    if "://" not in str(file):
        _check_writable(Path(file))
    with performance_report(filename=str(file)):
        yield


def _check_writable(path: Path) -> None:
    try:
        path.open("ab").close()
    except OSError as error:
        raise OutputError(
            f"performance_report: {str(path)!r} cannot be written: {error}"
        ) from error
