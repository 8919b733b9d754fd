"""Chunks that cannot be read, and how they can be again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.pipeline.datasets import Stored, write_case
from tests.strategies import Case


def broken(path: Path, case: Case, image: int, **keywords: Any) -> tuple[Stored, Path]:
    """A dataset in which a chunk is a link to itself, which cannot be read."""
    stored = write_case(path, case, **keywords)
    chunk = next((stored.pred_probs / "c" / str(image)).rglob("0"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    spoil(chunk)
    return stored, chunk


def spoil(chunk: Path) -> None:
    chunk.rename(chunk.with_suffix(".kept"))
    chunk.symlink_to(chunk)


def mend(chunk: Path) -> None:
    chunk.with_suffix(".kept").rename(chunk)
