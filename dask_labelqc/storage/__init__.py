"""Zarr arrays at any URL, read by box; records of finished work."""
