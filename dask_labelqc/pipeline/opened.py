"""One face to the outputs of audits of images: of one size, of every size, and one scene."""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from zarr.errors import GroupNotFoundError, NodeNotFoundError

from dask_labelqc.errors import InputError
from dask_labelqc.images import IMAGE_ID, OFFSET, PIXEL, sides_of
from dask_labelqc.storage.coordinates import SPATIAL, with_places
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import AnyArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ImageAudit", "open_audit"]

SCORES = ("image_score", "image_issue_fraction", "image_issue_count")
SHOWN = 5
"""Images that a representation names."""


class ImageAudit:
    """The output of an audit of images; iterate over it for a Dataset of each.

    Attributes
    ----------
    dataset
        All of it, as xarray opens it.

    Examples
    --------
    >>> from dask_labelqc.segmentation import audit
    >>> labels = [np.array([[0, 1]]), np.array([[1], [1], [0]])]
    >>> certain = [np.array([[0.9, 0.8]]), np.array([[0.1], [0.3], [0.2]])]
    >>> found = ImageAudit(audit(labels, [np.stack([p, 1 - p]) for p in certain]))
    >>> found
    <ImageAudit of 2 images of 1 x 2 to 3 x 1 pixels, 2 label issues (40.00%)>
    >>> found.image("1").label_issues.values
    array([[False],
           [False],
           [ True]])
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        missing = [name for name in SCORES if name not in dataset]
        if missing:
            raise InputError(
                f"audit: it has no {', '.join(missing)}, so it is no complete audit of images; "
                "xarray.open_zarr opens others"
            )
        self.dataset = dataset
        self._image_dim = str(dataset["image_score"].dims[0])

    @property
    def _ragged(self) -> bool:
        return dataset_is_ragged(self.dataset)

    @cached_property
    def ids(self) -> AnyArray:
        """What the images are called: by their table, else their coordinate, else by number."""
        for name in (IMAGE_ID, self._image_dim):
            if name in self.dataset.variables:
                values: AnyArray = self.dataset[name].values
                # Texts of any length have a dtype of their own, which NumPy does not cast.
                return np.array(values.tolist()) if name == IMAGE_ID else values
        return np.arange(len(self))

    @cached_property
    def _numbers(self) -> dict[Any, int]:
        return {name: i for i, name in enumerate(self.ids.tolist())}

    @cached_property
    def shapes(self) -> AnyArray:
        """Sides of each image, int64 (N, d)."""
        if self._ragged:
            sides = [name for name in sides_of() if name in self.dataset.variables]
            return np.stack([self.dataset[name].values for name in sides], axis=1)
        shape = [self.dataset.sizes[dim] for dim in self._spatial_dims]
        return np.tile(np.array(shape, np.int64), (len(self), 1))

    @property
    def _spatial_dims(self) -> tuple[str, ...]:
        dims = map(str, self.dataset["label_issues"].dims)
        return tuple(dim for dim in dims if dim != self._image_dim)

    def __len__(self) -> int:
        return int(self.dataset.sizes[self._image_dim])

    def __iter__(self) -> Iterator[xr.Dataset]:
        return map(self._image, range(len(self)))

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each image: its sides, its score, its issues, and what else is known of it."""
        import pandas

        shapes = self.shapes
        columns: dict[str, Any] = dict(zip(sides_of(shapes.shape[1]), shapes.T, strict=True))
        columns |= {name: self.dataset[name].values for name in SCORES}
        others = (str(name) for name in self.dataset.variables)
        for name in others:
            if self.dataset[name].dims == (self._image_dim,) and name not in (
                *columns,
                OFFSET,
                IMAGE_ID,
                self._image_dim,
            ):
                columns[name] = self.dataset[name].values
        index = pandas.Index(self.ids, name=IMAGE_ID)
        return pandas.DataFrame(columns, index=index)

    def worst(self, n: int = 20) -> pd.DataFrame:
        """Return the rows of the images with the lowest scores, the lowest first.

        Images without a score, of which nothing was audited, come last.
        """
        found: pd.DataFrame = self.table.sort_values("image_score", kind="stable").head(n)
        return found

    def image(self, image_id: Any) -> xr.Dataset:
        """Return what there is of an image: of its pixels with their dimensions, and of itself.

        Parameters
        ----------
        image_id
            What it is called in the table; its number where images have no names.

        Returns
        -------
        xarray.Dataset
            Along the image's own dimensions, with its coordinates.

        Raises
        ------
        InputError
            No image is called so.
        """
        number = self._numbers.get(image_id)
        if number is None:
            such = ", ".join(repr(name) for name in self.ids[:SHOWN].tolist())
            raise InputError(
                f"image_id: got {image_id!r}, which is none of the {len(self)} images, such as "
                f"{such}"
            )
        return self._image(number)

    def _image(self, number: int) -> xr.Dataset:
        dataset = self.dataset
        of_pixels = {
            name: variable
            for name, variable in dataset.variables.items()
            if set(variable.dims) & {self._image_dim, PIXEL if self._ragged else ""}
            or set(variable.dims) <= set(self._spatial_dims)
        }
        coords = set(dataset.coords) & of_pixels.keys()
        chosen = xr.Dataset(of_pixels).set_coords(coords)
        if not self._ragged:
            found = chosen.isel({self._image_dim: number}).assign_attrs(dataset.attrs)
            return with_places(found)
        shape = tuple(self.shapes[number].tolist())
        first = int(dataset[OFFSET].values[number])
        run = slice(first, first + int(np.prod(shape)))
        cut = chosen.isel({self._image_dim: number, PIXEL: run})
        dims = SPATIAL[-len(shape) :]
        unstacked = {
            name: (dims, variable.values.reshape(shape), variable.attrs)
            for name, variable in cut.variables.items()
            if variable.dims == (PIXEL,)
        }
        others = cut.drop_vars(list(unstacked))
        return with_places(others.assign(unstacked).assign_attrs(dataset.attrs))

    @cached_property
    def num_issues(self) -> int:
        """Label issues of all images."""
        return int(self.dataset["image_issue_count"].sum())

    def __repr__(self) -> str:
        sizes = self.shapes.prod(axis=1)
        by_size = self.shapes[np.argsort(sizes, kind="stable")[[0, -1]]].tolist()
        shapes = dict.fromkeys(" x ".join(map(str, shape)) for shape in by_size)
        share = self.num_issues / max(int(sizes.sum()), 1)
        return (
            f"<ImageAudit of {len(self):,} images of {' to '.join(shapes)} pixels, "
            f"{self.num_issues:,} label issues ({share:.2%})>"
        )

    def _repr_html_(self) -> str:
        worst = self.worst(SHOWN).to_html()
        return f"<p>{html.escape(repr(self))}</p><p>The worst:</p>{worst}"


def dataset_is_ragged(dataset: xr.Dataset) -> bool:
    """Say if the pixels of a dataset are along one axis, with the sizes of images beside."""
    return dataset["label_issues"].dims == (PIXEL,) and OFFSET in dataset.variables


def open_audit(path: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> ImageAudit:
    """Open the output of an audit of images, of one size or of every size.

    Parameters
    ----------
    path
        Path or URL of the output.
    storage_options
        Of the store that the URL names; see `audit_zarr`.

    Returns
    -------
    ImageAudit
        Its `table` has a row for each image, ``image(id)`` is a Dataset of one, and ``worst(n)``
        names those to look at first.

    Raises
    ------
    InputError
        There is no audit of images.
    """
    try:
        store = open_store(path, storage_options)
        with warnings.catch_warnings():
            # That metadata are not consolidated, of what is no complete audit.
            warnings.simplefilter("ignore", RuntimeWarning)
            dataset = xr.open_zarr(store)
    except (FileNotFoundError, GroupNotFoundError, NodeNotFoundError) as error:
        raise InputError(f"audit: there is no output of an audit at {str(path)!r}") from error
    return ImageAudit(dataset)
