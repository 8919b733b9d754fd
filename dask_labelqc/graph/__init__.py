"""Blocks, exact distributed selection, and graphs of public Dask arrays. Nothing of Zarr."""
