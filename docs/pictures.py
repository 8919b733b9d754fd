"""The pictures of the pages, drawn by the code that stands in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DRAWN = ("tutorials/segmentation", "tutorials/boxes", "tutorials/examples", "explanation/method")


def draw_all(folder: Path) -> None:
    """Run each page whose pictures are not there or older than it, and keep them."""
    folder.mkdir(exist_ok=True)
    for name in DRAWN:
        page, done = HERE / f"{name}.md", folder / f"{Path(name).name}.done"
        if done.exists() and done.stat().st_mtime > page.stat().st_mtime:
            continue
        with tempfile.TemporaryDirectory() as workplace:
            subprocess.run(
                [sys.executable, HERE / "pages.py", page, workplace],
                env=os.environ | {"MPLBACKEND": "agg"},
                check=True,
            )
            for picture in Path(workplace).glob("*.png"):
                shutil.copy(picture, folder)
        done.touch()
