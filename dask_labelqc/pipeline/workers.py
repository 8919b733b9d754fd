"""Make sure that a cluster's workers can do the work, before there is any."""

from __future__ import annotations

import logging
import os
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import dask.config
from dask.utils import format_time, parse_timedelta
from distributed import Client

from dask_labelqc.errors import InputError
from dask_labelqc.pipeline.on_cluster import NO_WORKERS, ask
from dask_labelqc.waiting import saying

__all__ = ["check_workers"]

PACKAGE = "dask-labelqc"
WAIT = "10 minutes"
SHOWN = 5

log = logging.getLogger(__name__)


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
        It is no client that a job can use; there is no worker within 10 minutes, or within what
        Dask's setting ``distributed.scheduler.no-workers-timeout`` says; or workers lack the
        package, or have another version.
    """
    if not isinstance(client, Client):
        raise InputError(
            f"client: got a {type(client).__name__}, it must be a dask.distributed.Client, such as "
            "Client(address)"
        )
    if client.asynchronous:
        raise InputError(
            "client: it was made with asynchronous=True, and a job waits for what it asks; give it "
            "another Client of the same scheduler, without asynchronous=True, or run the job in a "
            "thread (asyncio.to_thread) that makes its own"
        )
    if client.status != "running":
        raise InputError(f"client: its status is {client.status!r}; make a new one")
    _wait_for_worker(client)
    ours = version(PACKAGE)
    # A function of the standard library, so that it runs where the package is lacking.
    found = ask(client, client.run, version, PACKAGE, on_error="return")
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
    if ask(client, client.nthreads):
        return
    timeout = dask.config.get(NO_WORKERS, None) or WAIT
    # A cluster that scales makes a worker when there is something to do, and not before.
    task = client.submit(os.getpid, pure=False)
    try:
        with saying(partial(_say, client)):
            client.wait_for_workers(1, timeout=parse_timedelta(timeout))
    except TimeoutError as error:
        raise InputError(
            f"client: no worker has joined the scheduler at {client.scheduler.address} within "
            f"{timeout}; Dask's setting {NO_WORKERS} is how long to wait"
        ) from error
    finally:
        task.cancel()


def _say(client: Client, seconds: float) -> None:
    log.warning(
        "no worker has joined the scheduler at %s yet, for %s so far",
        client.scheduler.address,
        format_time(seconds),
    )
