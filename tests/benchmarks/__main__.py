"""``python -m tests.benchmarks [names] [--data DIR]``: measure, and print the tables."""

from __future__ import annotations

import argparse
import inspect
import logging
from importlib import import_module
from pathlib import Path

from tests.benchmarks.table import print_rows

BENCHMARKS = (
    "start",
    "memory",
    "kernels",
    "inspector",
    "job",
    "scale",
    "ragged",
    "object_store",
    "scheduling",
    "classification",
    "summary",
    "detection",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, help=", ".join(BENCHMARKS))
    parser.add_argument("--data", type=Path, default=Path("benchmark-data"), metavar="DIR")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    for name in arguments.names:
        rows = import_module(f"tests.benchmarks.bench_{name}").rows
        takes_data = "root" in inspect.signature(rows).parameters
        print_rows(rows(arguments.data) if takes_data else rows(), name)


if __name__ == "__main__":
    main()
