"""SLURM on this machine: a control daemon and two nodes, in a folder and on ports of their own.

The programs are those of Debian's `slurm-wlm` and `munge`. They run as whoever runs the tests.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.commands import process

NODES = ("one", "two")
CORES = 2
"""Of each node. More than the machine may have, so memory and cores are believed, not measured."""

CONFIGURATION = """\
ClusterName=labelqc
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that is requeued waits for as long as a credential is good, 120 s by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# No control groups, which containers lack.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
# Look at the queue at once; a job gives way to one of a partition of a higher tier.
SchedulerParameters=batch_sched_delay=0,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores} RealMemory=5000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cores} RealMemory=5000
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""  # noqa: E501


@dataclass(frozen=True)
class Slurm:
    """Running daemons; every command needs `environment`."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *command: str | Path, cwd: Path | None = None, **more: str) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self.environment, **more},
            cwd=cwd,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(done.args)}: {done.stderr}")
        return done.stdout.strip()

    def submit(self, *arguments: str | Path, cwd: Path, **environment: str) -> str:
        """Submit a batch job and return its number."""
        return self("sbatch", "--parsable", *arguments, cwd=cwd, **environment)

    def job(self, number: str) -> dict[str, str]:
        """Return what SLURM knows of a job: JobState, Restarts, NodeList, ExitCode, ..."""
        words = self("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.partition("=")[::2] for word in words)

    def jobs(self) -> list[str]:
        """Return the names of all jobs that wait or run."""
        return self("squeue", "--noheader", "--format=%j").splitlines()

    def wait(self, number: str, seconds: float = 300) -> dict[str, str]:
        """Wait until a job is over for good, and return what SLURM knows of it."""
        over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        wait_until(lambda: self.job(number)["JobState"] in over, f"job {number}", seconds)
        return self.job(number)

    def log(self, name: str) -> str:
        """Return what a daemon has logged."""
        return (self.folder / f"{name}.log").read_text()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Run the daemons in an empty folder, which everybody may read: munge insists."""
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    slurm = Slurm(folder, environment)
    _configure(folder)
    with ExitStack() as daemons:
        for name, command in _commands(folder).items():
            log = folder / f"{name}.out"
            daemons.enter_context(process(*command, log=log, **environment))
            if name == "munge":
                wait_until((folder / "munge.socket").exists, "munged")
        wait_until(lambda: _idle(slurm) == {*NODES}, "nodes that are idle", 60)
        yield slurm


def _configure(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=folder,
            nodes=NODES,
            cores=CORES,
            ports=_free_ports(1 + len(NODES)),
        )
    )


def _commands(folder: Path) -> dict[str, list[str]]:
    munged = [
        _program("munged"),
        "--foreground",
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--seed-file={folder}/munge.seed",
    ]
    nodes = {f"slurmd-{name}": [_program("slurmd"), "-D", "-N", name] for name in NODES}
    return {"munge": munged, "slurmctld": [_program("slurmctld"), "-D"], **nodes}


def _program(name: str) -> str:
    """Return the path of a daemon; the folder of daemons is not on everybody's path."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name}: not installed; `make slurm` installs it")
    return found


def _idle(slurm: Slurm) -> set[str]:
    try:
        found = slurm("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
    except RuntimeError:  # the control daemon does not answer yet
        return set()
    return set(found.splitlines())


def _free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in bound]
