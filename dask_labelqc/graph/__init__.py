"""Dask arrays of blocks and of objects, by public ways. Nothing of the method."""
