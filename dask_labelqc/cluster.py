"""Open a Dask client: of a running scheduler, this machine, a batch system, Kubernetes, a Gateway.

Each opener is a context manager. It yields a client that is Dask's default inside the ``with``
block, of a cluster that grows and shrinks with the work, and closes what it has opened.
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask.config
from dask.system import CPU_COUNT
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT
from distributed.utils import LoopRunner

from dask_labelqc.errors import InputError

__all__ = ["open_client", "open_gateway", "open_kubernetes", "open_local", "open_pbs", "open_slurm"]

WORKER_BYTES = 1_000_000_000
"""Memory that a local worker has at least: more than the formula in the docs asks for."""

NO_WORKERS = "distributed.scheduler.no-workers-timeout"
LOCAL_PATIENCE = "5 minutes"
"""For which a job waits where all workers of this machine have died and Dask starts none again."""

TARGET_DURATION = "10ms"
"""In how little time an adaptive cluster is to be done with the tasks that the scheduler knows.

A job submits two tasks for each thread and no more, whatever is left to do. By Dask's own 5 s a
cluster would therefore never grow.
"""


@contextmanager
def open_client(
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    *,
    threads: int | None = None,
    scheduler_file: str | Path | None = None,
    worker_bytes: int = 0,
) -> Iterator[Client | None]:
    """Yield a client of a running scheduler, of a local cluster, or none for threads.

    Parameters
    ----------
    scheduler
        Address of a running scheduler, tcp or tls, with Dask's own security settings; by default
        that of Dask's setting ``scheduler-address``, if it has one.
    workers
        Processes of a local cluster; 0 for threads of this process.
    memory_limit
        Of each local worker, as Dask writes it ("2GB"); by default its share of the machine's.
    threads
        Of each local worker, 1 by default.
    scheduler_file
        File with the address, which a scheduler writes when it starts (``--scheduler-file``).
        Dask's setting ``distributed.comm.timeouts.connect`` is how long to wait for either.
    worker_bytes
        Memory that each local worker is to have at least where their number is not given.

    Yields
    ------
    Client or None
        Closed at the end, and a local cluster with it; a running scheduler is left alone.

    Raises
    ------
    InputError
        No scheduler answers at the address, a local cluster cannot be made so, or what is said of
        its workers is of no use where there are none.
    """
    if scheduler is None and scheduler_file is None and workers is None:
        scheduler = dask.config.get("scheduler-address", None)
    if scheduler is not None or scheduler_file is not None:
        if scheduler is not None and scheduler_file is not None:
            raise InputError("scheduler, scheduler_file: give one of them")
        local = {"workers": workers, "threads": threads, "memory_limit": memory_limit}
        _check_none_given(local, f"{scheduler or scheduler_file} is the scheduler of another")
        with _connect(scheduler, scheduler_file) as client, client.as_current():
            yield client
    elif workers == 0:
        _check_none_given({"memory_limit": memory_limit}, "there are no workers")
        yield None
    else:
        threads = 1 if threads is None else threads
        if workers is None:
            workers = _local_workers(threads, worker_bytes)
        patience = dask.config.get(NO_WORKERS, None) or LOCAL_PATIENCE
        with (
            dask.config.set({NO_WORKERS: patience}),
            open_local(workers, threads=threads, memory_limit=memory_limit or "auto") as client,
        ):
            yield client


def _check_none_given(arguments: Mapping[str, Any], why: str) -> None:
    if given := [name for name, value in arguments.items() if value is not None]:
        raise InputError(f"{', '.join(given)}: for a cluster of this machine only, and {why}")


class _Client(Client):
    """A client that is closed when it cannot start, whatever the reason.

    Dask's own is not where settings do not fit, and then holds up the end of the process.
    """

    def start(self, **options: Any) -> None:
        try:
            super().start(**options)
        except BaseException:
            self.close()
            raise


def _connect(address: str | None, file: str | Path | None) -> Client:
    """Connect, or say why not; not as the default, which a client stays that never came up."""
    named = f"scheduler: no answer from {address!r}" if address else f"scheduler_file: {file}"
    timeout = dask.config.get("distributed.comm.timeouts.connect")
    deadline = time.monotonic() + parse_timedelta(timeout)
    while file is not None and not Path(file).exists():
        if time.monotonic() > deadline:
            raise InputError(f"{named}: no such file, after {timeout}")
        time.sleep(0.1)
    try:
        return _Client(address, scheduler_file=file, set_as_default=False)
    # Settings that do not fit are a TypeError (TLS without certificates) or a RuntimeError.
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{named}: {error}") from error


@contextmanager
def open_local(
    workers: int | None = None,
    *,
    threads: int = 1,
    memory_limit: str = "auto",
    minimum: int | None = None,
) -> Iterator[Client]:
    """Yield a client of worker processes on this machine.

    Parameters
    ----------
    workers
        Processes; by default as many as the machine has cores for, each with 1 GB at least.
    threads
        Of each process.
    memory_limit
        Of each process, as Dask writes it ("2GB"); by default its share of the machine's.
    minimum
        Start with so many, and as many more as there is work for.

    Yields
    ------
    Client
        Closed at the end, and the cluster with it.

    Raises
    ------
    InputError
        A cluster cannot be made so.
    """
    if threads < 1:
        raise InputError(f"threads: {threads} is not at least 1")
    if workers is None:
        workers = _local_workers(threads)
    _check_scaling(workers, minimum or 0, "workers")
    with _deaf_loop() as loop:
        try:
            cluster = LocalCluster(
                n_workers=workers if minimum is None else minimum,
                threads_per_worker=threads,
                memory_limit=MEMORY_LIMIT // workers if memory_limit == "auto" else memory_limit,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,  # a task's error is logged, and raised here
                loop=loop,
            )
        except ValueError as error:
            raise InputError(
                f"workers, memory_limit: {workers}, {memory_limit}: {error}"
            ) from error
        with cluster, cluster.get_client() as client:
            if minimum is not None:
                cluster.adapt(minimum=minimum, maximum=workers, target_duration=TARGET_DURATION)
            yield client


def _local_workers(threads: int, worker_bytes: int = 0) -> int:
    """Return how many workers this machine has cores and memory for."""
    share: int = MEMORY_LIMIT // max(worker_bytes, WORKER_BYTES)
    cores: int = CPU_COUNT // max(threads, 1)
    return max(min(cores, share), 1)


@contextmanager
def _deaf_loop() -> Iterator[Any]:
    """Run an event loop in a thread that Ctrl-C does not reach, nor what is started from it.

    A terminal interrupts every process of its group. Workers that were to hear of it would die with
    tracebacks and be started again while this process ends the job.
    """
    runner = LoopRunner()
    # Or the first worker that needs it would start it, and let that thread hear again.
    resource_tracker.ensure_running()
    had = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, had)
    try:
        yield runner.loop
    finally:
        runner.stop()


def open_slurm(
    maximum: int,
    *,
    minimum: int = 0,
    cores: int | None = None,
    memory: str | None = None,
    queue: str | None = None,
    walltime: str | None = None,
    **options: Any,
) -> AbstractContextManager[Client]:
    """Yield a client of workers that SLURM runs, each a job; needs dask-jobqueue.

    What is not given is taken from Dask's settings (``jobqueue.slurm``, from a ``jobqueue.yaml``).

    Parameters
    ----------
    maximum, minimum
        Workers at the most, and those that are kept when there is nothing to do.
    cores, memory
        Of each job, 1 and "4GB" by default.
    queue, walltime
        Partition to submit to, and the time after which a job is ended ("02:00:00").
    **options
        Further arguments of `dask_jobqueue.SLURMCluster`.

    Yields
    ------
    Client
        Closed at the end, and the jobs cancelled.

    Raises
    ------
    InputError
        This machine has no ``sbatch``, or the scheduler cannot be started.
    """
    given = {"cores": cores, "memory": memory, "queue": queue, "walltime": walltime, **options}
    return _open_jobs("SLURMCluster", maximum, minimum, given)


def open_pbs(
    maximum: int,
    *,
    minimum: int = 0,
    cores: int | None = None,
    memory: str | None = None,
    queue: str | None = None,
    walltime: str | None = None,
    **options: Any,
) -> AbstractContextManager[Client]:
    """Yield a client of workers that PBS runs, each a job; needs dask-jobqueue.

    What is not given is taken from Dask's settings (``jobqueue.pbs``, from a ``jobqueue.yaml``).

    Parameters
    ----------
    maximum, minimum
        Workers at the most, and those that are kept when there is nothing to do.
    cores, memory
        Of each job, 1 and "4GB" by default.
    queue, walltime
        Queue to submit to, and the time after which a job is ended ("02:00:00").
    **options
        Further arguments of `dask_jobqueue.PBSCluster`.

    Yields
    ------
    Client
        Closed at the end, and the jobs deleted.

    Raises
    ------
    InputError
        This machine has no ``qsub``, or the scheduler cannot be started.
    """
    given = {"cores": cores, "memory": memory, "queue": queue, "walltime": walltime, **options}
    return _open_jobs("PBSCluster", maximum, minimum, given)


@contextmanager
def open_kubernetes(
    maximum: int,
    *,
    minimum: int = 0,
    name: str = "labelqc",
    image: str | None = None,
    namespace: str | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Client]:
    """Yield a client of pods that Dask's Kubernetes operator runs; needs dask-kubernetes.

    Parameters
    ----------
    maximum, minimum
        Workers at the most, and those that are kept when there is nothing to do.
    name
        Of the DaskCluster; one that is running is used as it is, and left.
    image
        Of scheduler and workers; by default ``dask-labelqc:`` and the version of this package, as
        ``deploy/docker`` builds it.
    namespace
        By default the current one.
    env
        Environment of scheduler and workers.
    **options
        Further arguments of `dask_kubernetes.operator.KubeCluster`.

    Yields
    ------
    Client
        Closed at the end, and the cluster deleted if it was made here.

    Raises
    ------
    InputError
        There is no Kubernetes, or it makes no such cluster.
    """
    kind = _import("dask_kubernetes.operator", "dask-kubernetes", "kubernetes").KubeCluster
    _check_scaling(maximum, minimum)
    settings = {
        "name": name,
        "image": image or f"dask-labelqc:{version('dask-labelqc')}",
        "namespace": namespace,
        "n_workers": minimum,
        # The operator asks the scheduler for the number of workers, which goes by its settings.
        "env": {"DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION": TARGET_DURATION, **(env or {})},
    }
    try:
        cluster = kind(**settings | options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"name: no cluster {name!r} on Kubernetes: {error}") from error
    with cluster, cluster.get_client() as client:
        cluster.adapt(minimum=minimum, maximum=maximum)
        yield client


@contextmanager
def open_gateway(
    maximum: int,
    *,
    minimum: int = 0,
    address: str | None = None,
    **options: Any,
) -> Iterator[Client]:
    """Yield a client of a new cluster of a Dask Gateway; needs dask-gateway.

    Parameters
    ----------
    maximum, minimum
        Workers at the most, and those that are kept when there is nothing to do.
    address
        Of the Gateway; by default that of Dask's settings (``gateway.address``), which a
        JupyterHub's servers have.
    **options
        The Gateway's own cluster options, such as an image or the memory of a worker.

    Yields
    ------
    Client
        Closed at the end, and the cluster shut down.

    Raises
    ------
    InputError
        No Gateway answers, or it has no such options.
    """
    kind = _import("dask_gateway", "dask-gateway", "gateway").GatewayCluster
    _check_scaling(maximum, minimum)
    try:
        cluster = kind(address, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"address: no cluster of the Gateway: {error}") from error
    with cluster, cluster.get_client() as client:
        seconds = parse_timedelta(TARGET_DURATION)
        # No setting reaches the Gateway's own scaling.
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(
                dask_scheduler.services["gateway"], "target_duration", seconds
            )
        )
        cluster.adapt(minimum=minimum, maximum=maximum)
        yield client


@contextmanager
def _open_jobs(name: str, maximum: int, minimum: int, given: Mapping[str, Any]) -> Iterator[Client]:
    """Open a cluster of dask-jobqueue with what is given, else the settings', else ours."""
    kind = getattr(_import("dask_jobqueue", "dask-jobqueue", "jobqueue"), name)
    _check_scaling(maximum, minimum)
    command = kind.job_cls.submit_command
    if shutil.which(command) is None:  # a cluster that scales would only log that, and wait
        raise InputError(f"{name}: no {command} here; jobs are submitted with it")
    section = given.get("config_name", kind.job_cls.config_name)
    configured = dask.config.get(f"jobqueue.{section}", {})
    needed = {
        key: given[key] or configured.get(key) or default
        for key, default in (("cores", 1), ("memory", "4GB"))
    }
    try:
        cluster = kind(**{**given, **needed})
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {error}") from error
    with cluster, cluster.get_client() as client:
        cluster.adapt(minimum=minimum, maximum=maximum, target_duration=TARGET_DURATION)
        yield client


def _check_scaling(maximum: int, minimum: int, name: str = "maximum") -> None:
    if maximum < 1:
        raise InputError(f"{name}: {maximum} is not at least 1")
    if not 0 <= minimum <= maximum:
        raise InputError(f"minimum: {minimum} is not between 0 and {name}, {maximum}")


def _import(module: str, package: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'this cluster needs {package}: pip install "dask-labelqc[{extra}]"'
        ) from error
