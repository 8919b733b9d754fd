"""How long it takes before anything of the package runs."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.table import Row, medians, print_rows


def start(statement: str) -> None:
    """Run a statement in a fresh Python."""
    subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL)


def import_row(module: str, target: str, runs: int) -> Row:
    """Compare the import of a module with that of NumPy; Python's own start is in both."""
    taken = medians(
        runs,
        ours=lambda: start(f"import {module}"),
        numpy=lambda: start("import numpy"),
        python=lambda: start("pass"),
    )
    return Row(
        f"import {module}",
        target,
        f"{taken['ours']:.2f} s",
        f"fresh Python, medians of {runs}: {taken['ours'] / taken['numpy']:.2f} times as long as "
        f"import numpy ({taken['numpy']:.2f} s); Python alone {taken['python']:.2f} s",
    )


def rows(runs: int = 5) -> list[Row]:
    return [
        import_row("dask_labelqc", "0.4 s", runs),
        import_row("dask_labelqc.cli", "0.4 s", runs),
        import_row("dask_labelqc.segmentation", "-", runs),
    ]


if __name__ == "__main__":
    print_rows(rows(), "start")
