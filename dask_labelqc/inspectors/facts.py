"""What is known of the pixels of images, one image apart from the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dask_labelqc.kernels.hashing import hash_runs
from dask_labelqc.kernels.per_image import tell_apart
from dask_labelqc.kernels.summary import BlockScan
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.storage.ledger import Entry
from dask_labelqc.storage.packing import pack, unpack
from dask_labelqc.typing import AnyArray, BoolArray, Ints

__all__ = ["ImageFacts", "Worst", "facts_of_scan", "read_entry", "stored_dtype"]

LISTS = {
    "num_classes": ("classes", "class_sum", "class_count"),
    "num_disagreeing": ("position", "score", "confidence", "given", "predicted"),
    "num_agreeing": ("agreeing",),
}
"""Which lists of all images have so many entries of each."""
ASCENDING = ("position", "agreeing")
"""Lists that ascend within an image: their differences are small."""
COUNT = np.dtype(np.uint32)


@dataclass(frozen=True)
class Worst:
    """The probabilities of a batch whose sum is farthest from one.

    Attributes
    ----------
    image
        Which of the images it is in.
    deviation, total, position
        How far, the sum, and the flat position in the image.
    """

    image: int
    deviation: float
    total: float
    position: int


@dataclass(frozen=True)
class ImageFacts:
    """What is known of images, in the order they came.

    Attributes
    ----------
    ids, hashes
        uint8 (n, 16): of all that is known of an image.
    images
        Arrays with an entry for each image: ``shape`` (n, d), ``softmin`` (n, w), and (n,): how
        many pixels take part (``image_count``), have a score not above the usual bound (``below``),
        the highest score of one that disagrees (``highest``), and how long the lists are.
    lists
        One after the other, in the images' order: the classes that occur with their sums and
        counts; of the pixels that disagree position, s, m, y and a; s of those that agree, in
        ascending order.
    dtype
        Of the stored predictions; of floating ones that of their probabilities.
    worst
        Of each batch.
    """

    ids: Sequence[str]
    hashes: AnyArray
    images: Mapping[str, AnyArray]
    lists: Mapping[str, AnyArray]
    dtype: np.dtype[Any]
    worst: tuple[Worst, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for arrays in (self.images, self.lists) for a in arrays.values())

    @classmethod
    def joined(cls, parts: Sequence[ImageFacts]) -> ImageFacts:
        """Return what is known of the images of several batches."""
        starts = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
        worst = [
            replace(each, image=each.image + start)
            for start, part in zip(starts, parts, strict=False)
            for each in part.worst
        ]
        return cls(
            [each for part in parts for each in part.ids],
            np.concatenate([part.hashes for part in parts]),
            {n: np.concatenate([p.images[n] for p in parts]) for n in parts[0].images},
            {n: np.concatenate([p.lists[n] for p in parts]) for n in parts[0].lists},
            parts[0].dtype,
            tuple(worst),
        )

    def joined_with(self, others: Sequence[ImageFacts]) -> ImageFacts:
        """Return what is known of these images and, after them, of others."""
        return self.joined([self, *others])

    def follows(self, other: ImageFacts) -> bool:
        """Say if it may be in one record with what came before: of as many dimensions."""
        mine, theirs = self.images["shape"], other.images["shape"]
        return bool(mine.shape[1] == theirs.shape[1] and self.dtype == other.dtype)

    def only(self, keep: BoolArray) -> ImageFacts:
        """Return what is known of some of the images."""
        lists = dict(self.lists)
        for count, names in LISTS.items():
            kept = np.repeat(keep, self.images[count])
            lists |= {name: self.lists[name][kept] for name in names}
        ids = [each for each, kept in zip(self.ids, keep, strict=True) if kept]
        images = {name: values[keep] for name, values in self.images.items()}
        return ImageFacts(ids, self.hashes[keep], images, lists, self.dtype)

    def head(self) -> dict[str, AnyArray]:
        """Return what is needed of the images before any list is."""
        worst = [(w.deviation, w.total) for w in self.worst]
        places = [(w.image, w.position) for w in self.worst]
        return {
            **self.images,
            "worst": np.array(worst, np.float64).reshape(-1, 2),
            "worst_place": np.array(places, np.int64).reshape(-1, 2),
            "stored_dtype": np.zeros(0, self.dtype),
            "score_dtype": np.zeros(0, self.lists["score"].dtype),
            "class_dtype": np.zeros(0, self.lists["given"].dtype),
        }

    def body(self) -> dict[str, AnyArray]:
        """Return the lists, packed."""
        return {
            name: pack(_as_integers(values), name in ASCENDING, fast=True)
            for name, values in self.lists.items()
        }


def read_entry(entry: Entry) -> ImageFacts:
    """Return the facts of a record."""
    head = entry.head
    score, label = head["score_dtype"].dtype, head["class_dtype"].dtype
    dtypes: dict[str, np.dtype[Any]] = {
        "class_sum": np.dtype(np.int64),
        "class_count": COUNT,
        "position": COUNT,
    }
    dtypes |= dict.fromkeys(("classes", "given", "predicted"), label)
    lists = {}
    for name, packed in entry.body.items():
        bits = dtypes.get(name, np.dtype(f"u{score.itemsize}"))
        values = unpack(packed, bits, name in ASCENDING)
        lists[name] = values if name in dtypes else values.view(score)
    names = ("shape", "image_count", "softmin", "below", "highest", *LISTS)
    worst = (
        Worst(int(image), float(deviation), float(total), int(position))
        for (deviation, total), (image, position) in zip(
            head["worst"], head["worst_place"], strict=True
        )
    )
    images = {name: head[name] for name in names}
    dtype = head["stored_dtype"].dtype
    return ImageFacts(entry.ids, entry.hashes, images, lists, dtype, tuple(worst))


def facts_of_scan(
    ids: Sequence[str], scan: BlockScan, codes: Ints, params: Parameters, bound: float
) -> ImageFacts:
    """Return what the scan of a batch found of each image.

    Parameters
    ----------
    ids
        Of the images.
    scan, codes
        What was found, with dense scores; int32 (n, *spatial).
    params, bound
        Of the batch, and how it was scanned.
    """
    num_images, spatial = codes.shape[0], params.shape[1:]
    flat = codes.reshape(num_images, -1)
    size, listed = flat.shape[1], (scan.position, scan.score)
    each = tell_apart(scan.dense_score, flat, *listed, params.num_classes, params.bound, bound)
    where, classes = np.nonzero(each.class_count)
    agreeing = each.kept - each.disagreeing_kept
    lists = {
        "classes": classes.astype(params.class_dtype),
        "class_sum": each.class_sum[where, classes],
        "class_count": each.class_count[where, classes].astype(COUNT),
        "position": (scan.position % size).astype(COUNT),
        "score": scan.score,
        "confidence": scan.confidence,
        "given": scan.given,
        "predicted": scan.predicted,
        "agreeing": _sorted_within(scan.agreeing, agreeing),
    }
    images = {
        "shape": np.tile(np.array(spatial, COUNT), (num_images, 1)),
        "image_count": scan.image_count.astype(COUNT),
        "softmin": scan.softmin,
        "below": each.below.astype(COUNT),
        "highest": each.highest,
        "num_classes": np.bincount(where, minlength=num_images).astype(COUNT),
        "num_disagreeing": each.disagreeing.astype(COUNT),
        "num_agreeing": agreeing.astype(COUNT),
    }
    hashes = _hashes(images, lists)
    dtype = stored_dtype(params)
    return ImageFacts(ids, hashes, images, lists, dtype, _worst(scan, size))


def stored_dtype(params: Parameters) -> np.dtype[Any]:
    """Return what an audit has to know of how predictions are stored.

    Half precision means the same on a device, where it becomes single precision first.
    """
    return np.dtype(params.probability_dtype if params.dtype.kind == "f" else params.dtype)


def _worst(scan: BlockScan, size: int) -> tuple[Worst, ...]:
    deviation, total = scan.worst_sum.tolist()
    if scan.worst_sum_pixel < 0:
        return ()
    image, position = divmod(scan.worst_sum_pixel, size)
    return (Worst(image, deviation, total, position),)


def _as_integers(values: AnyArray) -> AnyArray:
    return values.view(f"u{values.itemsize}") if values.dtype.kind == "f" else values


def _sorted_within(scores: AnyArray, counts: Ints) -> AnyArray:
    """Sort the scores of each image; their bits are in their order, and sort faster."""
    ordered = scores.copy()
    bits, edges = _as_integers(ordered), np.cumsum([0, *counts])
    for i in np.flatnonzero(counts > 1).tolist():
        bits[edges[i] : edges[i + 1]].sort()
    return ordered


def _hashes(images: Mapping[str, AnyArray], lists: Mapping[str, AnyArray]) -> AnyArray:
    """Return a hash of all that is known of each image."""
    alone = [(values, _number_of_each(values)) for values in images.values()]
    listed = [(lists[name], images[count]) for count, names in LISTS.items() for name in names]
    return hash_runs([*alone, *listed])


def _number_of_each(values: AnyArray) -> Ints:
    """Return how many numbers an array has of each image."""
    return np.full(len(values), values[:1].size)
