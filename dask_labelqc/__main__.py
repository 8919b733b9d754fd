"""The command line, as ``python -m dask_labelqc``."""

from __future__ import annotations

from dask_labelqc.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
