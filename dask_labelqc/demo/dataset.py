"""The dataset of the demo: scenes, their labels and predictions in Zarr, and the truth beside them.

```
demo.zarr/
    labels             (image, y, x)         uint8    as the annotator drew them
    pred_probs         (image, class, y, x)  float32  one chunk for each image
    truth/true_labels  (image, y, x)         uint8
    truth/error_kind   (image,)              uint8    position in the attribute `error_kinds`
    truth/error_class  (image,)              int16    class of the thing concerned, -1: no error
    truth/wrong_pixels (image,)              int64
```
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import GroupNotFoundError

from dask_labelqc.demo.label_errors import ERROR_KINDS, LabelError, annotate, assign_error_kinds
from dask_labelqc.demo.predictions import predict
from dask_labelqc.demo.scenes import CLASS_NAMES, compose_scene, image_streams
from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.storage.groups import consolidate
from dask_labelqc.typing import AnyArray

__all__ = ["DatasetSpec", "is_complete", "read_array", "read_attributes", "write_dataset"]

MAKER = "dask-labelqc demo"
REVISION = 1
"""Raised whenever the same parameters make other pixels, so that old datasets are not reused."""


@dataclass(frozen=True)
class DatasetSpec:
    """Parameters from which a dataset follows to the bit.

    Attributes
    ----------
    images : int
        Number of images.
    size : int
        Height and width in pixels, 32 or more.
    seed : int
        Seed of everything random, 0 or more.
    error_fraction : float
        Share of the images whose labels get an error, 0 to 1.
    """

    images: int = 240
    size: int = 512
    seed: int = 0
    error_fraction: float = 0.12

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"images must be 1 or more, got {self.images}")
        if self.size < 32:
            raise InputError(f"size must be 32 pixels or more, got {self.size}")
        if self.seed < 0:
            raise InputError(f"seed must be 0 or more, got {self.seed}")
        if not 0 <= self.error_fraction <= 1:
            raise InputError(f"error_fraction must be within 0 and 1, got {self.error_fraction}")

    @property
    def pred_probs_bytes(self) -> int:
        """Size of the predictions in memory."""
        return self.images * len(CLASS_NAMES) * self.size**2 * 4


def write_dataset(
    path: str | Path,
    spec: DatasetSpec,
    *,
    executor: Executor | None = None,
    on_image: Callable[[int], object] | None = None,
) -> bool:
    """Write the dataset, unless it is there already.

    Parameters
    ----------
    path : str or Path
        Directory of the Zarr group. A dataset of other parameters, or one that was not finished,
        is made anew.
    spec : DatasetSpec
        What to make.
    executor : concurrent.futures.Executor, optional
        Where the images are made: threads, processes, or a cluster (`client.get_executor()`) that
        shares the file system. The default makes one after the other.
    on_image : callable, optional
        Called with the number of finished images after each.

    Returns
    -------
    bool
        True if the dataset was written, False if it was there, complete and with these parameters.

    Raises
    ------
    OutputError
        If something that the demo did not make is in the way.
    """
    path = Path(path)
    if is_complete(path, spec):
        return False
    _refuse_foreign(path)
    group = _create(path, spec)
    kinds = assign_error_kinds(spec.images, spec.error_fraction, spec.seed)
    write = partial(_write_image, str(path), spec)
    run = map if executor is None else executor.map
    errors = []
    for error in run(write, range(spec.images), kinds.tolist()):
        errors.append(error)
        if on_image is not None:
            on_image(len(errors))
    _write_errors(group, errors)
    _finish(path)
    return True


def is_complete(path: str | Path, spec: DatasetSpec) -> bool:
    """Return whether a whole dataset with these parameters is at `path`."""
    attributes = read_attributes(path)
    return attributes.get("parameters") == _parameters(spec) and bool(attributes.get("complete"))


def read_array(group: str | Path, name: str, where: int | slice = slice(None)) -> AnyArray:
    """Read one array of a group, or the images that `where` selects.

    Raises
    ------
    InputError
        If the group or the array is missing.
    """
    try:
        array = zarr.open_array(str(group), path=name, mode="r")
    except FileNotFoundError:
        raise InputError(f"there is no array {name!r} in the Zarr group {str(group)!r}") from None
    return np.asarray(array[where])


def read_attributes(group: str | Path) -> dict[str, Any]:
    """Return the attributes of a group, none if there is no group."""
    try:
        return zarr.open_group(str(group), mode="r").attrs.asdict()
    except (FileNotFoundError, GroupNotFoundError):
        return {}


def _parameters(spec: DatasetSpec) -> dict[str, Any]:
    return {"revision": REVISION, **asdict(spec)}


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() and read_attributes(path).get("maker") != MAKER:
        raise OutputError(
            f"{str(path)!r} exists and was not made by the demo; "
            "name another directory, or remove it"
        )


def _create(path: Path, spec: DatasetSpec) -> zarr.Group:
    """Create the empty arrays; what was there is deleted."""
    attributes = {
        "maker": MAKER,
        "parameters": _parameters(spec),
        "class_names": list(CLASS_NAMES),
        "complete": False,
    }
    group = zarr.create_group(path, overwrite=True, attributes=attributes)
    truth = group.create_group("truth", attributes={"error_kinds": list(ERROR_KINDS)})
    pixels = (spec.size, spec.size)
    _create_images(group, "labels", (spec.images, *pixels), ("image", "y", "x"), "uint8")
    _create_images(truth, "true_labels", (spec.images, *pixels), ("image", "y", "x"), "uint8")
    _create_images(
        group,
        "pred_probs",
        (spec.images, len(CLASS_NAMES), *pixels),
        ("image", "class", "y", "x"),
        "float32",
    )
    return group


def _create_images(
    group: zarr.Group, name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str
) -> None:
    group.create_array(
        name,
        shape=shape,
        chunks=(1, *shape[1:]),
        dtype=dtype,
        compressors=ZstdCodec(level=1),
        dimension_names=dims,
    )


def _write_image(path: str, spec: DatasetSpec, index: int, kind: int) -> LabelError:
    """Make image `index` and write its chunk of each array; the rest is what to remember."""
    scene_stream, annotator, model = image_streams(spec.seed, index)
    scene = compose_scene(scene_stream)
    given, true, error = annotate(scene, kind, spec.size, annotator)
    for name, pixels in (
        ("truth/true_labels", true),
        ("labels", given),
        ("pred_probs", predict(scene, spec.size, model)),
    ):
        zarr.open_array(path, path=name, mode="r+")[index] = pixels
    return error


def _write_errors(group: zarr.Group, errors: list[LabelError]) -> None:
    columns: dict[str, AnyArray] = {
        "truth/error_kind": np.array([error.kind for error in errors], np.uint8),
        "truth/error_class": np.array([error.class_id for error in errors], np.int16),
        "truth/wrong_pixels": np.array([error.pixels for error in errors], np.int64),
    }
    for name, values in columns.items():
        group.create_array(name, data=values, dimension_names=("image",))


def _finish(path: Path) -> None:
    """Let xarray open the group without a search, and mark it complete, last of all."""
    group = consolidate(zarr.open_group(str(path), mode="r+"))
    group.attrs["complete"] = True
