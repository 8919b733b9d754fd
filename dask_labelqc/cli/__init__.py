"""The command line: ``dask labelqc`` and ``dask-labelqc``."""

from dask_labelqc.cli.commands import labelqc, main

__all__ = ["labelqc", "main"]
