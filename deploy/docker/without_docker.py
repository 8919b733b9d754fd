"""Follow the Dockerfile without a container runtime, in a bare Debian, and run what it makes.

    python deploy/docker/without_docker.py FOLDER                  # what the image runs by itself
    python deploy/docker/without_docker.py FOLDER labelqc --help   # with these arguments
    VOLUMES=/here:/data python deploy/docker/without_docker.py FOLDER labelqc info /data/set.zarr

The first call makes the image as a tree of files below FOLDER; later ones run it. As in a container
the tree is the root, processes see only themselves, the user is the one that the Dockerfile names,
and SIGTERM goes to the first process. The network is the machine's own. Needs Linux, root, and
debootstrap, whose Debian stands in for the base image: the same release, with its own Python.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[2]
DOCKERFILE = Path(__file__).with_name("Dockerfile")
BASE = "python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
AUTHORITIES = Path("etc/ssl/certs/ca-certificates.crt")
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")


@dataclass
class Stage:
    """A tree of files, and how commands run in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        return self.root / os.path.join(self.folder, path).lstrip("/")

    def run(self, command: Sequence[str], volumes: Mapping[str, str] | None = None) -> int:
        """Run a command in the tree.

        With volumes as a container that is begun with its files read-only: with folders of the
        machine at the places named, and an empty /tmp.
        """
        user, _, group = self.user.partition(":")
        root = shlex.quote(str(self.root))
        mounts = [f"mount --types tmpfs tmpfs {root}/dev/shm"]
        if volumes is not None:
            mounts = [
                *(f"mkdir --parents {root}{shlex.quote(there)}" for there in volumes.values()),
                f"mount --bind {root} {root}",
                f"mount --options remount,ro,bind {root}",
                *(
                    f"mount --bind {shlex.quote(here)} {root}{shlex.quote(there)}"
                    for here, there in volumes.items()
                ),
                *mounts,
                f"mount --types tmpfs tmpfs {root}/tmp",
            ]
        enter = [
            *("unshare", "--pid", "--fork", "--kill-child", f"--root={self.root}", "--mount-proc"),
            *(f"--wd={self.folder}", f"--setuid={user}", f"--setgid={group or user}"),
        ]
        script = " && ".join([*mounts, f"exec {shlex.join([*enter, *command])}"])
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"PATH": os.environ["PATH"], "HOME": "/"} | self.environment
        running = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], env=environment)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        signal.signal(
            signal.SIGTERM,
            lambda number, frame: [os.kill(int(it), number) for it in children.read_text().split()],
        )
        return running.wait()


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile and what follows it, its lines joined."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def expand(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], ""), text)


def build(folder: Path) -> Stage:
    """Follow the Dockerfile, stage by stage; returns the last one."""
    base = make_base(folder / "base")
    stages: dict[str, Stage] = {}
    stage, arguments = Stage(base), dict[str, str]()
    for name, rest in instructions(DOCKERFILE.read_text()):
        print(f"{name} {rest}", flush=True)
        known = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"} | arguments
        known |= stage.environment
        match name:
            case "FROM":
                image, _, label = re.fullmatch(r"(\S+)( AS (\S+))?", rest).groups()
                assert image == BASE, f"another base than the one imitated: {image}"
                stage = Stage(folder / f"stage-{len(stages)}", {"PATH": known["PATH"]})
                stages[label or str(len(stages))] = stage
                arguments = {}
                subprocess.run(["cp", "--archive", base, stage.root], check=True)
            case "ARG":
                variable, _, value = rest.partition("=")
                arguments[variable] = os.environ.get(variable, value)
            case "ENV":
                for pair in shlex.split(rest):
                    variable, _, value = pair.partition("=")
                    stage.environment[variable] = expand(value, known)
            case "WORKDIR":
                stage.folder = rest
                stage.inside("").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = rest
            case "COPY":
                copy(rest, stage, stages)
            case "RUN":
                values = [f"{variable}={value}" for variable, value in arguments.items()]
                if stage.run(["env", *values, "/bin/sh", "-c", rest]):
                    sys.exit(f"failed: {rest}")
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "CMD":
                stage.command = json.loads(rest)
            case "EXPOSE":
                pass
            case _:
                sys.exit(f"not known here: {name}")
    return stage


def make_base(root: Path) -> Path:
    if not root.exists():
        release = BASE.rpartition("-")[2]
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, root], check=True
        )
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        # As any builder: names and certificates are the machine's.
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copy("/etc/hosts", root / "etc/hosts")
        if (Path("/") / AUTHORITIES).exists():
            shutil.copy(Path("/") / AUTHORITIES, root / AUTHORITIES)
    return root


def copy(rest: str, stage: Stage, stages: Mapping[str, Stage]) -> None:
    options = dict(re.findall(r"--(\w+)=(\S+)", rest))
    *sources, target = re.sub(r"--\w+=\S+", "", rest).split()
    for source in sources:
        from_stage = stages.get(options.get("from", ""))
        if from_stage is None and ignored(source):
            sys.exit(f"COPY {source}: .dockerignore keeps it from the builder")
        origin = from_stage.inside(source) if from_stage else SOURCE / source
        place = stage.inside(target)
        if target.endswith("/"):
            place = place / origin.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            skip = shutil.ignore_patterns("__pycache__") if from_stage is None else None
            shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True, ignore=skip)
        else:
            shutil.copy(origin, place)
        if "chmod" in options:
            place.chmod(int(options["chmod"], 8))


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a file from the builder; the last pattern decides."""
    verdict = False
    for line in (SOURCE / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            keep, pattern = line.startswith("!"), line.removeprefix("!")
            parts = [Path(path), *Path(path).parents][:-1]
            if any(fnmatch.fnmatch(str(part), pattern) for part in parts):
                verdict = not keep
    return verdict


def main() -> None:
    """Build unless it is done, and run."""
    folder, *arguments = sys.argv[1:]
    file = Path(folder).absolute() / "image.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = build(file.parent)
        file.write_text(json.dumps(vars(made), default=str))
    stage = Stage(**json.loads(file.read_text()))
    stage.root = Path(stage.root)
    volumes = dict(v.split(":") for v in os.environ.get("VOLUMES", "").split(",") if v)
    sys.exit(stage.run([*stage.entrypoint, *(arguments or stage.command)], volumes))


if __name__ == "__main__":
    main()
