"""Figures of the images with the most label issues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr

from dask_labelqc.colors import class_colors
from dask_labelqc.errors import InputError
from dask_labelqc.extent import Extent
from dask_labelqc.figures import pyplot, show
from dask_labelqc.graph.objects import from_blocks, reduce_objects
from dask_labelqc.kernels.labels import VOID, encode_labels
from dask_labelqc.limits import check_blocks
from dask_labelqc.method.format import warn_of_fill
from dask_labelqc.method.validity import check_whole
from dask_labelqc.segmentation.image_lists import check_sizes, plain_images, sizes_differ
from dask_labelqc.segmentation.inputs import as_dask
from dask_labelqc.storage.alignment import ClassDim, ImageDim, line_up
from dask_labelqc.storage.containers import labels_fill, plain_array
from dask_labelqc.storage.dimensions import describe
from dask_labelqc.terminal import printable
from dask_labelqc.typing import AnyArray, BoolArray, Ints, Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["WorstImages", "draw_images", "worst_images"]

ISSUE_COLOR = (255, 0, 0)
NO_ISSUE_COLOR = (255, 255, 255)
NO_CLASS_COLOR = (0, 0, 0)
"""Of labels that are no class, such as ignored ones."""
MOST_CLASSES = 2**16
"""Where nothing says how many classes there are."""
PANEL = 5.0
"""Inches, the side of a panel."""
LEGEND_COLUMNS = 6
BLOCK_BYTES = 2**24
"""Mask that is looked through at a time."""


@dataclass(frozen=True)
class WorstImages:
    """The images of a block with the most issues, most first, ties by index.

    Attributes
    ----------
    index, count
        int64 (m,): which images, and how many issues they have.
    masks
        bool (m, H, W), or a list of m masks of different sizes.
    most
        How many are kept at the most.
    """

    index: Ints
    count: Ints
    masks: Any
    most: int

    @classmethod
    def of(cls, masks: BoolArray, start: int, most: int) -> WorstImages:
        """Choose among the images (n, H, W) of a block, the first of which is number `start`."""
        masks = np.ma.filled(masks, False)
        count = np.count_nonzero(masks, axis=(1, 2)).astype(np.int64)
        kept = np.argsort(-count, kind="stable")[:most]
        return cls(kept + start, count[kept], masks[kept], most)

    def images(self) -> Iterator[tuple[int, BoolArray]]:
        """Yield which images these are, and the mask of each."""
        return zip(self.index.tolist(), self.masks, strict=True)

    def __add__(self, other: WorstImages) -> WorstImages:
        index = np.concatenate([self.index, other.index])
        count = np.concatenate([self.count, other.count])
        kept = np.lexsort((index, -count))[: self.most]
        masks = np.concatenate([self.masks, other.masks])[kept]
        return WorstImages(index[kept], count[kept], masks, self.most)


def worst_images(issues: Any, most: int) -> WorstImages:
    """Return the images of a mask (N, H, W) with the most issues, from one read of the mask."""
    if isinstance(issues, zarr.Array):
        images = max(BLOCK_BYTES // int(np.prod(issues.shape[1:])), 1)
        images = -(-images // issues.chunks[0]) * issues.chunks[0]
        check_blocks("issues", issues.shape, (images, *issues.shape[1:]))
        issues = da.from_zarr(issues, chunks=(images, *issues.shape[1:]))
    if isinstance(issues, np.ndarray):
        return WorstImages.of(issues, 0, most)
    whole = issues.rechunk({1: -1, 2: -1})
    parts = from_blocks(partial(_worst_of_block, most), whole.chunks, [whole])
    found: WorstImages = reduce_objects(WorstImages.__add__, parts).compute()
    return found


def _worst_of_block(most: int, extent: Extent, masks: BoolArray) -> WorstImages:
    return WorstImages.of(masks, extent.start[0], most)


def draw_images(
    issues: Any,
    labels: Any,
    pred_probs: Any,
    class_names: Sequence[str] | None,
    exclude: Sequence[int],
    top: int,
    image_ids: Sequence[Any] | None = None,
    *,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    **kwargs: Any,
) -> list[Figure]:
    """Draw and show a figure for each of the `top` worst images; see `summary.display_issues`."""
    plt = pyplot()
    if sizes_differ(issues, labels, pred_probs):
        mask, given, predicted, ids = _listed(issues, labels, pred_probs)
        worst: Any = _worst_of_list(mask, top)
        num_images, num_classes = len(mask), len(predicted[0]) if predicted else MOST_CLASSES
        fill: Shape = ()
    else:
        mask, given, predicted, ids = _seen(issues, labels, pred_probs, image_dim, class_dim)
        _check_shapes(mask, given, predicted)
        worst = worst_images(mask, top)
        num_images = mask.shape[0]
        num_classes = MOST_CLASSES if predicted is None else predicted.shape[1]
        fill = labels_fill(labels)
        warn_of_fill(fill, 0 if predicted is None else num_classes)
    ids = ids if image_ids is None else image_ids
    if ids is not None and len(ids) != num_images:
        raise InputError(f"image_ids: got {len(ids)} of them, there are {num_images} images")
    figures = []
    if class_names is not None and not (given is None and predicted is None):
        figures.append(_draw_legend(plt, class_names))
        show(figures[-1], **kwargs)
    for image, flagged in worst.images():
        panels = []
        if given is not None:
            shown = _read(given, image)
            codes = _codes(shown, image, num_classes, fill)
            flagged = flagged & (codes != VOID) & ~np.isin(np.ma.getdata(shown), list(exclude))
            panels.append(("Given labels", _painted(codes)))
        if predicted is not None:
            stored = _read(predicted, image)
            lost = np.ma.getmaskarray(stored).any(axis=0)
            flagged = flagged & ~lost
            classes = np.where(lost, VOID, np.ma.getdata(stored).argmax(axis=0))
            panels.append(("Predicted labels", _painted(classes)))
        colors = np.array([NO_ISSUE_COLOR, ISSUE_COLOR], np.uint8)
        name = printable(str(image if ids is None else ids[image]))
        panels.append((f"Image {name}: label issues (red)", colors[flagged.astype(int)]))
        figures.append(_draw_panels(plt, panels))
        show(figures[-1], **kwargs)
    return figures


def _seen(
    issues: Any, labels: Any, pred_probs: Any, image_dim: ImageDim, class_dim: ClassDim
) -> tuple[Any, Any, Any, Sequence[Any] | None]:
    """Return the arrays lined up, and the ids of the images, as far as there are these.

    The arrays are (N, H, W) twice and (N, K, H, W).
    """
    named = {"issues": issues, "labels": labels, "pred_probs": pred_probs}
    arrays = {name: plain_array(a, name) for name, a in named.items() if a is not None}
    dims = {name: describe(named[name], name) for name in arrays}
    predicted = dims.pop("pred_probs", None)
    lineup = line_up(list(dims.values()), predicted, image_dim=image_dim, class_dim=class_dim)
    layouts = dict(zip(dims, lineup.pixels, strict=True)) | {"pred_probs": lineup.pred_probs}
    issues, labels, pred_probs = (
        None
        if name not in arrays
        else arrays[name]
        if layouts[name].is_plain
        else as_dask(layouts[name], arrays[name])
        for name in named
    )
    found = (
        described.index(lineup.image_dim)
        for described in (*dims.values(), predicted)
        if described is not None and lineup.image_dim is not None
    )
    ids = next((list(index) for index in found if index is not None), None)
    return issues, labels, pred_probs, ids


def _listed(
    issues: Any, labels: Any, pred_probs: Any
) -> tuple[list[AnyArray], list[AnyArray] | None, list[AnyArray] | None, None]:
    """Return lists of images of every size, checked; that they have ids is not known."""
    named = {"issues": issues, "labels": labels, "pred_probs": pred_probs}
    lists = {name: plain_images(a, name) for name, a in named.items() if a is not None}
    mask = lists.pop("issues")
    for i, image in enumerate(mask):
        if image.ndim != 2 or image.dtype != np.bool_:
            raise InputError(
                f"issues: image {i} has shape {image.shape} and dtype {image.dtype}; it must be "
                "bool (H, W)"
            )
    for name, images in lists.items():
        check_sizes(name, images, mask)
    return mask, lists.get("labels"), lists.get("pred_probs"), None


def _worst_of_list(masks: Sequence[BoolArray], most: int) -> WorstImages:
    """Return the images of a list with the most issues, most first, ties by index."""
    count = np.array([np.count_nonzero(np.ma.filled(mask, False)) for mask in masks], np.int64)
    kept = np.argsort(-count, kind="stable")[:most]
    chosen = [np.ma.filled(masks[i], False) for i in kept]
    return WorstImages(kept, count[kept], chosen, most)


def _check_shapes(issues: Any, labels: Any, pred_probs: Any) -> None:
    if len(issues.shape) != 3 or 0 in issues.shape:
        raise InputError(f"issues: got shape {issues.shape}, it must be (N, H, W) and not empty")
    if issues.dtype != np.bool_:
        raise InputError(f"issues: got dtype {issues.dtype}, it must be bool")
    if labels is not None and labels.shape != issues.shape:
        raise InputError(
            f"labels: got shape {labels.shape}, it must be that of issues {issues.shape}"
        )
    if pred_probs is not None:
        shape = pred_probs.shape
        if len(shape) != 4 or (shape[0], *shape[2:]) != issues.shape:
            raise InputError(
                f"pred_probs: got shape {shape}, it must be (N, K, H, W) for issues {issues.shape}"
            )


def _read(array: Any, image: int) -> AnyArray:
    """Read one image."""
    part = array[image]
    return np.asanyarray(part.compute() if isinstance(part, da.Array) else part)


def _codes(labels: AnyArray, image: int, num_classes: int, fill: Shape) -> Ints:
    """Return the codes of an image's labels; below 0 are those that are no class."""
    encoded = encode_labels(labels, num_classes, fill)
    check_whole(encoded, labels, Extent((image, 0, 0), (image + 1, *labels.shape)))
    return encoded.codes


def _painted(codes: Ints) -> AnyArray:
    """Return the RGB image of a map of classes."""
    codes = np.maximum(codes, VOID)
    palette = np.concatenate([class_colors(int(codes.max()) + 1), [NO_CLASS_COLOR]])
    return palette.astype(np.uint8)[codes]


def _draw_panels(plt: Any, panels: Sequence[tuple[str, AnyArray]]) -> Figure:
    figure, axes = plt.subplots(1, len(panels), figsize=(PANEL * len(panels), PANEL), squeeze=False)
    for axis, (title, picture) in zip(axes[0], panels, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, parse_math=False)  # a dollar in a name is a dollar
    drawn: Figure = figure
    return drawn


def _draw_legend(plt: Any, class_names: Sequence[str]) -> Figure:
    from matplotlib.patches import Patch

    colors = class_colors(len(class_names)) / 255
    patches = [Patch(facecolor=color, edgecolor="black", linewidth=0.4) for color in colors]
    columns = min(len(patches), LEGEND_COLUMNS)
    rows = -(-len(patches) // max(columns, 1))
    figure: Figure = plt.figure(figsize=(2 * max(columns, 1), 0.4 * rows + 0.4))
    # Notebooks leave out figures without axes.
    figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    names = [printable(str(name)) for name in class_names]
    # Matplotlib leaves out names that begin with an underscore, and reads formulas in others.
    legend = figure.legend(
        patches, [" "] * len(names), loc="center", ncols=max(columns, 1), frameon=False
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)
    return figure
