"""Make sure that a cluster's workers can do the work, before there is any."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

import dask.config
from dask.utils import parse_timedelta
from distributed import Client

from dask_labelqc.errors import InputError

__all__ = ["check_workers"]

PACKAGE = "dask-labelqc"
WAIT = "10 minutes"
SHOWN = 5


def check_workers(client: Client) -> None:
    """Wait for a worker, and see that every worker has this version of the package.

    Workers that join later are not looked at; on a cluster that scales they are made as the first
    ones are.

    Parameters
    ----------
    client
        Of the cluster.

    Raises
    ------
    InputError
        There is no worker within 10 minutes, or within what Dask's setting
        ``distributed.scheduler.no-workers-timeout`` says; or workers lack the package, or have
        another version.
    """
    _wait_for_worker(client)
    ours = version(PACKAGE)
    # A function of the standard library, so that it runs where the package is lacking.
    found = client.run(version, PACKAGE, on_error="return")
    others = {address: it for address, it in found.items() if it != ours}
    wrong = [
        f"{address} lacks it" if isinstance(it, PackageNotFoundError) else f"{address} has {it}"
        for address, it in others.items()
        if not isinstance(it, OSError)  # gone by now
    ]
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(
            f"client: {len(wrong)} of {len(found)} workers cannot run {PACKAGE} {ours}: "
            f"{', '.join(wrong[:SHOWN])}{more}; install that version on every worker"
        )


def _wait_for_worker(client: Client) -> None:
    if client.nthreads():
        return
    setting = "distributed.scheduler.no-workers-timeout"
    timeout = dask.config.get(setting, None) or WAIT
    # A cluster that scales makes a worker when there is something to do, and not before.
    task = client.submit(os.getpid, pure=False)
    try:
        client.wait_for_workers(1, timeout=parse_timedelta(timeout))
    except TimeoutError as error:
        raise InputError(
            f"client: no worker has joined the scheduler at {client.scheduler.address} within "
            f"{timeout}; Dask's setting {setting} is how long to wait"
        ) from error
    finally:
        task.cancel()
