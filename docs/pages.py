"""The code of a Markdown page: read, run from top to bottom, or checked where it cannot be run.

A page is run in an empty folder, its Python in one namespace, its shell with `bash`. What a comment
right before a block says of it:

- ``<!-- output -->``: what the block before it prints, ``...`` standing for anything;
- ``<!-- not run: docker, kubectl -->``: programs, or words of it, that tests do not have: the
  commands are checked with `check_shell`;
- ``<!-- on threads: open_slurm -->``: openers of clusters that tests do not have: their arguments
  are checked, and what they would run on a cluster runs on threads;
- ``<!-- file: name -->``: the content of a file, which is written.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
MARKS = ("output", "not run", "on threads", "file")
LANGUAGES = ("python", "sh", "text")
PROGRAMS = r"dask|dask-labelqc:\S+|/tmp/image"
"""What `labelqc` is a command of: Dask, and images that are run."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the mark before it."""

    page: Path
    line: int
    language: str
    code: str
    mark: str = ""
    words: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it is, as an editor finds it."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the README and every page of the site."""
    written = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("docs", "deploy"):
        found = (ROOT / folder).rglob("*.md")
        written += [path for path in found if "_build" not in path.parts]
    return sorted(written)


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page that are code; directives of the site are none."""
    found = []
    comment = ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            comment = token.content
        elif token.type in ("fence", "code_block"):
            language = token.info.strip()
            if not language.startswith("{"):
                line = token.map[0] + 1 if token.map else 0
                found.append(Block(page, line, language, token.content, *_mark_in(comment)))
            comment = ""
        elif token.content:
            comment = ""
    return found


def _mark_in(comment: str) -> tuple[str, tuple[str, ...]]:
    if not (found := re.fullmatch(r"\s*<!--\s*([a-z ]+?)\s*(?::(.*?))?-->\s*", comment)):
        return "", ()
    words = (found[2] or "").split(",")
    return found[1], tuple(word.strip() for word in words if word.strip())


@dataclass
class Run:
    """A page that is being run: its folder, its names in Python, and what was printed last."""

    folder: Path
    environment: Mapping[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    def block(self, block: Block) -> None:
        """Run a block, or check it where its mark says that it cannot be run."""
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r} is not known here"
        assert block.mark in ("", *MARKS), f"{block.place}: no such mark: {block.mark!r}"
        code = block.code
        for written, here in self.replaced.items():
            code = code.replace(written, here)
        if block.mark == "file":
            (self.folder / block.words[0]).write_text(code)
        elif block.language == "text":
            assert block.mark == "output", f"{block.place}: text is the output of a block"
            check_output(block, self.printed)
        elif block.mark == "not run":
            assert block.language == "sh", f"{block.place}: Python runs"
            check_shell(block)
        elif block.language == "sh":
            self._shell(block, code)
        else:
            self._python(block, code)

    def _shell(self, block: Block, code: str) -> None:
        environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=environment | dict(self.environment),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
        self.printed = done.stdout

    def _python(self, block: Block, code: str) -> None:
        program = compile("\n" * block.line + code, str(block.page), "exec")
        printed = io.StringIO()
        with _on_threads(block.words), contextlib.redirect_stdout(printed):
            exec(program, self.names)
        self.printed = printed.getvalue()


def check_output(block: Block, printed: str) -> None:
    """Hold what a page says is printed against what was."""
    said, done = (" ".join(text.split()) for text in (block.code, printed))
    pattern = ".*".join(re.escape(part.strip()) for part in said.split("..."))
    assert re.fullmatch(pattern, done, re.DOTALL), f"{block.place}: printed was\n{printed}"


def check_shell(block: Block) -> None:
    """Check commands that are not run: their syntax, and what of them is ours."""
    done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    assert block.words, f"{block.place}: say what is missing to run it"
    for word in block.words:
        assert word in block.code, f"{block.place}: there is no {word} in it"
    for words in _commands(block.code):
        try:
            _check_command(words)
        except Exception as error:
            raise AssertionError(f"{block.place}: {shlex.join(words)}: {error}") from error


def _commands(code: str) -> Iterator[list[str]]:
    """Split a script into the words of its commands."""
    lines = code.replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= set("();<>|&"):
                if command:
                    yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def _check_command(words: list[str]) -> None:
    """Check the arguments of our commands, and that files and targets that are named are there."""
    for word in words:
        if re.match(r"(deploy|notebooks)/[\w./-]+$", word):
            assert (ROOT / word).exists(), f"{word} is not there"
        for extras in re.findall(r"^\.\[([\w,]+)\]$", word):
            check_extras(extras.split(","))
    for position, (before, word) in enumerate(pairwise(words)):
        if word == "labelqc" and re.fullmatch(PROGRAMS, before):
            check_arguments(words[position + 2 :])
    if "audit.sbatch" in words and words[0] == "sbatch":
        check_arguments(["audit", *words[words.index("audit.sbatch") + 1 :]])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"there is no such target: {words[1:]}"


def check_extras(names: list[str]) -> None:
    """Check that the package has these extras."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    missing = set(names) - set(project["optional-dependencies"])
    assert not missing, f"there are no such extras: {missing}"


def check_arguments(arguments: list[str]) -> None:
    """Parse arguments of the command line without running anything."""
    import click

    from dask_labelqc.cli import labelqc

    name, *rest = arguments
    with contextlib.suppress(click.exceptions.Exit):  # --help
        # Within the group: a command remembers the names of its option for help.
        group = click.Context(labelqc, **labelqc.context_settings)
        labelqc.commands[name].make_context(name, rest, parent=group)


@contextlib.contextmanager
def _on_threads(names: tuple[str, ...]) -> Iterator[None]:
    """Let openers of clusters check their arguments, and yield no client."""
    from dask_labelqc import cluster

    with contextlib.ExitStack() as patched:
        for name in names:
            signature = inspect.signature(getattr(cluster, name))

            @contextlib.contextmanager
            def opened(*arguments: Any, _like: Any = signature, **more: Any) -> Iterator[None]:
                _like.bind(*arguments, **more)
                yield None

            patched.enter_context(mock.patch.object(cluster, name, opened))
        yield


def main(page: str, folder: str) -> int:
    """Run a page in a folder."""
    blocks = blocks_of(Path(page))
    os.chdir(folder)
    run = Run(Path(folder), {})
    try:
        for block in blocks:
            run.block(block)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
