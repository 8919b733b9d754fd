"""Data for the benchmarks: soft predictions of blocky scenes, a few per cent of labels wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr

CELL = 16
IMAGE_BYTES = 21 * 512 * 512 * 4
"""Predictions of an image of `write_zarr`, float32."""
DISTINCT = 8
"""Images that are really drawn; a dataset repeats them, each shifted by its own amount."""
WRITTEN = 64
"""Images that are really written, 1.3 GB; the files of all others are links to theirs."""


def draw(num_images: int, num_classes: int, size: int = 512, seed: int = 0) -> tuple[Any, Any]:
    """Return labels int64 (N, H, W) and pred_probs float32 (N, K, H, W)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, (num_images, size // CELL, size // CELL))
    truth = coarse.repeat(CELL, 1).repeat(CELL, 2)
    pred_probs = rng.random((num_images, num_classes, size, size), dtype=np.float32)
    at_truth = np.take_along_axis(pred_probs, truth[:, None], 1) + np.float32(num_classes)
    np.put_along_axis(pred_probs, truth[:, None], at_truth, 1)
    pred_probs /= pred_probs.sum(axis=1, keepdims=True)
    wrong = rng.random(coarse.shape) < 0.03
    given = np.where(wrong, rng.integers(0, num_classes, coarse.shape), coarse)
    return given.repeat(CELL, 1).repeat(CELL, 2), pred_probs


def write_zarr(
    path: Path,
    num_images: int,
    num_classes: int = 21,
    size: int = 512,
    dtype: str = "float32",
    compressors: Any = "auto",
) -> None:
    """Write a dataset of one image a chunk with Zarr's default zstd, unless it is there.

    Only `WRITTEN` images have files of their own: what is read from the page cache costs the same,
    and fits into it.
    """
    group = zarr.open_group(path, mode="a")
    if group.attrs.get("images") == num_images:
        return
    labels, pred_probs = draw(DISTINCT, num_classes, size)
    if dtype == "uint8":
        pred_probs = np.rint(pred_probs * 255)
    arrays = {
        name: group.create_array(
            name,
            shape=(num_images, *data.shape[1:]),
            chunks=(1, *data.shape[1:]),
            dtype=data.dtype,
            compressors=compressors,
            overwrite=True,
        )
        for name, data in (
            ("labels", labels.astype(np.uint8)),
            ("pred_probs", pred_probs.astype(dtype)),
        )
    }

    def write(image: int) -> None:
        for name, data in (("labels", labels), ("pred_probs", pred_probs)):
            arrays[name][image] = np.roll(data[image % DISTINCT], image, axis=-1)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(min(num_images, WRITTEN))))
    for name, array in arrays.items():
        inner = "/".join("0" * (array.ndim - 1))
        for image in range(WRITTEN, num_images):
            file = path / name / "c" / str(image) / inner
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.hardlink_to(path / name / "c" / str(image % WRITTEN) / inner)
    group.attrs["images"] = num_images


def first_images(whole: Path, path: Path, num_images: int) -> None:
    """Make the dataset of the first images of another one, whose chunks it links to."""
    source, group = zarr.open_group(whole, mode="r"), zarr.open_group(path, mode="w")
    for name in ("labels", "pred_probs"):
        array: Any = source[name]
        group.create_array(
            name,
            shape=(num_images, *array.shape[1:]),
            chunks=array.chunks,
            dtype=array.dtype,
        )
        (path / name / "c").symlink_to((whole / name / "c").resolve())
