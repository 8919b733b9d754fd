"""The shell completes the command line as docs/how-to/install.md says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from docs.pages import BIN, ROOT, blocks_of

PAGE = ROOT / "docs/how-to/install.md"
COMPLETE = r"""
line=({line})
COMP_WORDS=("${{line[@]}}") COMP_CWORD=$((${{#line[@]}} - 1))
registered=$(complete -p "${{line[0]}}")
[[ $registered =~ -F\ ([^ ]+) ]]
"${{BASH_REMATCH[1]}}" "${{line[0]}}"
echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of somebody who did what the page says."""
    folder = tmp_path_factory.mktemp("home")
    for block in blocks_of(PAGE):
        if "_COMPLETE=" in block.code:
            bash(folder, block.code)
    return folder


def bash(home: Path, code: str) -> str:
    environment = os.environ | {"HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("dask labelqc inf", "info"),
        ("dask labelqc au", "audit audit-boxes audit-files"),
        ("dask labelqc audit --val", "--validate"),
        ("dask labelqc audit --validate ''", "full labels none"),
        ("dask labelqc audit x", ""),
        ("dask-labelqc de", "demo"),
    ],
)
def test_bash(home: Path, line: str, completed: str) -> None:
    sourced = "".join(b.code for b in blocks_of(PAGE) if b.code.startswith("source"))
    assert bash(home, sourced + COMPLETE.format(line=line)).strip() == completed


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (".dask-complete.zsh", "compdef _dask_completion dask"),
        (".config/fish/completions/dask.fish", "complete --no-files --command dask"),
    ],
)
def test_other_shells(home: Path, file: str, said: str) -> None:
    assert said in (home / file).read_text()
