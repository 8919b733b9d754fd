"""Small datasets of images of every size, in memory and on one flat axis in Zarr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from hypothesis import strategies as st

from dask_labelqc.images import ImageTable
from tests import reference
from tests.strategies import Case, cases, make_case

WHOLE: Any = {"write_empty_chunks": True}

shape_lists = st.integers(1, 3).flatmap(
    lambda ndim: st.lists(st.tuples(*[st.integers(1, 5)] * ndim), min_size=1, max_size=6)
)


@dataclass(frozen=True)
class RaggedCase:
    """Images of every size, all pixels of which are those of one flat image, and how to audit."""

    flat: Case
    shapes: list[tuple[int, ...]]

    @property
    def table(self) -> ImageTable:
        return ImageTable.of([f"image-{i}" for i in range(len(self.shapes))], self.shapes)

    def images(self, flat: np.ndarray) -> list[np.ndarray]:
        """What each image has of an array (..., pixels)."""
        parts = np.split(flat, self.table.offsets[1:-1], axis=-1)
        return [
            part.reshape(*part.shape[:-1], *shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    @property
    def labels(self) -> list[np.ndarray]:
        return self.images(self.flat.labels[0])

    @property
    def pred_probs(self) -> list[np.ndarray]:
        return self.images(self.flat.pred_probs[0])

    def expected(self) -> dict[str, Any]:
        """The outputs by the reference: those of pixels as a list of images."""
        whole = reference.audit(self.flat.labels, self.flat.pred_probs, **self.flat.arguments)
        each = [
            reference.audit(labels[None], probs[None], **self.flat.arguments)
            for labels, probs in zip(self.labels, self.pred_probs, strict=True)
        ]
        found = {name: getattr(whole, name) for name in PER_CLASS}
        found |= {name: self.images(getattr(whole, name)[0]) for name in PER_PIXEL}
        counts = np.array([mask.sum() for mask in found["label_issues"]])
        valid = np.array([(~np.isnan(scores)).sum() for scores in found["pixel_scores"]])
        with np.errstate(invalid="ignore"):
            fraction = counts / valid
        score = np.array([image.image_score[0] for image in each])
        return found | {
            "image_score": score,
            "image_issue_count": counts,
            "image_issue_fraction": fraction,
        }


PER_CLASS = ("confident_threshold", "class_count", "class_issue_count", "issue_matrix")
PER_PIXEL = ("label_issues", "pixel_scores", "predicted_label")


def ragged_case(
    shapes: list[tuple[int, ...]], seed: int = 0, num_classes: int = 4, **more: Any
) -> RaggedCase:
    pixels = sum(math.prod(shape) for shape in shapes)
    return RaggedCase(make_case(seed, (1, pixels), num_classes, **more), shapes)


@st.composite
def ragged_cases(draw: st.DrawFn) -> RaggedCase:
    """Images of every size, of any dtype."""
    shapes, like = draw(shape_lists), draw(cases(downsampling=False))
    pixels = sum(math.prod(shape) for shape in shapes)
    labels = np.resize(like.labels.reshape(1, -1), (1, pixels))
    num_classes = like.pred_probs.shape[1]
    probs = np.moveaxis(like.pred_probs, 1, -1).reshape(-1, num_classes)
    flat = np.resize(probs, (pixels, num_classes)).T[None]
    return RaggedCase(Case(labels, np.ascontiguousarray(flat), like.ignore_index), shapes)


def regular_case(case: Case) -> RaggedCase:
    """A dataset whose images have one size, as if these might be any."""
    n, k, *spatial = case.pred_probs.shape
    flat = np.moveaxis(case.pred_probs.reshape(n, k, -1), 1, 0).reshape(1, k, -1)
    how = case.ignore_index, case.downsample, case.label_downsample
    labels = case.labels.reshape(1, -1)
    return RaggedCase(Case(labels, np.ascontiguousarray(flat), *how), [tuple(spatial)] * n)


def write_ragged(path: Path | Any, case: RaggedCase, chunk: int = 20, shard: int = 1) -> Any:
    """Write it to a group; return its location."""
    group = zarr.open_group(path, mode="w")
    case.table.write(group)
    num_classes = case.flat.pred_probs.shape[1]
    for name, data, chunks, dims in (
        ("labels", case.flat.labels[0], (), ()),
        ("pred_probs", case.flat.pred_probs[0], (num_classes,), ("class",)),
    ):
        group.create_array(
            name,
            data=data,
            chunks=(*chunks, chunk),
            shards=(*chunks, chunk * shard) if shard > 1 else None,
            dimension_names=(*dims, "pixel"),
            config=WHOLE,
        )
    return path


def check_ragged(found: Any, case: RaggedCase) -> None:
    """Compare every output with the reference: equal but for the softmin of cut images."""
    for name, values in case.expected().items():
        if name in PER_PIXEL:
            if name in found:
                flat = np.concatenate([image.reshape(-1) for image in values])
                np.testing.assert_array_equal(found[name], flat, err_msg=name)
        elif name == "image_score":
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
