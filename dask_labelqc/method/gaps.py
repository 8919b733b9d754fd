"""What reads as a fill value because it is not in the store: said once, or an error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import distributed
import numpy as np

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.extent import NO_GAPS, Gap, Gaps, Region, name_images
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.typing import Ints

__all__ = ["FindGaps", "Missing", "missing_of", "no_gaps", "warn_of_missing"]

FindGaps: TypeAlias = Callable[[Any], Gaps]
"""Says what is not in the store of a block that was read."""

LISTED = 1000
"""Images that are remembered by number; the lowest, so that any order of adding finds the same."""
SHOWN = 8
"""Runs of images or classes that a message names."""


def no_gaps(extent: Region) -> Gaps:
    """Say that everything is there, as of arrays in memory."""
    return NO_GAPS


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Missing:
    """What is not in the store and may be meant so; `+` does not depend on the order.

    Attributes
    ----------
    label_chunks, num_label_chunks
        How many chunks of labels are not there, of how many.
    label
        As which class they read; -1 if that is none, or ignored.
    label_images
        The images that they hold parts of, the first `LISTED`.
    classes, class_images
        Of the predictions: classes of which chunks are not there, and in which images.
    """

    label_chunks: int = 0
    num_label_chunks: int = 0
    label: int = -1
    label_images: Ints = field(default_factory=_none)
    classes: Ints = field(default_factory=_none)
    class_images: Ints = field(default_factory=_none)

    def __add__(self, other: Missing) -> Missing:
        return Missing(
            self.label_chunks + other.label_chunks,
            self.num_label_chunks + other.num_label_chunks,
            max(self.label, other.label),
            _united([self.label_images, other.label_images]),
            _united([self.classes, other.classes]),
            _united([self.class_images, other.class_images]),
        )


def _united(numbers: Iterable[Sequence[int] | Ints]) -> Ints:
    lists = [np.asarray(n, np.int64)[:LISTED] for n in numbers if len(n)]
    if not lists:
        return _none()
    return np.unique(np.concatenate(lists))[:LISTED]


def missing_of(gaps: Gaps, codes: Ints, extent: Region, params: Parameters) -> Missing:
    """Return what is not there of a block.

    Parameters
    ----------
    gaps, codes
        Of the block: what is not in the store, and the class codes of its pixels.
    extent, params
        Its place, and the parameters of the audit.

    Raises
    ------
    InputError
        Predictions are not there of which nothing can be made: all classes of a pixel that takes
        part, or some of them where they are logits.
    """
    label = _class_of(gaps.label, params)
    images = [chunk.numbers for chunk in gaps.labels] if label >= 0 else []
    classes, class_images = _missing_classes(gaps, codes, extent, params)
    return Missing(
        len(images), gaps.num_label_chunks, label, _united(images), classes, class_images
    )


def _class_of(fill: Any, params: Parameters) -> int:
    """Return the class that a fill value of the labels is, -1 if it is none or ignored."""
    value = float(fill or 0)  # that of an older format may be None
    whole = value.is_integer() and 0 <= value < params.num_classes
    return int(value) if whole and int(value) not in params.ignore_index else -1


def _missing_classes(
    gaps: Gaps, codes: Ints, extent: Region, params: Parameters
) -> tuple[Ints, Ints]:
    here: defaultdict[tuple[Any, ...], list[Gap]] = defaultdict(list)
    for gap in gaps.pred_probs:
        place = extent.slices_of(gap.extent)
        if (codes.reshape(extent.shape)[place] >= 0).any():
            here[tuple((part.start, part.stop) for part in place)].append(gap)
    for found in here.values():
        count = sum(stop - first for first, stop in (gap.classes for gap in found))
        if params.from_logits or count == params.num_classes:
            raise InputError(_error(found[0], gaps.pred_prob, count, params))
    classes = _united(range(*gap.classes) for found in here.values() for gap in found)
    return classes, _united(found[0].extent.numbers for found in here.values())


def _error(gap: Gap, fill: Any, count: int, params: Parameters) -> str:
    image, pixel = gap.extent.place(0)
    what = "all classes" if count == params.num_classes else f"{count} of the classes"
    return (
        f"pred_probs: the chunk {gap.key!r} is not in the store and {what} read as {fill} at image "
        f"{image}, pixel {pixel}; check that the predictions are complete"
    )


def warn_of_missing(missing: Missing) -> None:
    """Warn, on the client of a cluster, of what is not in the store and may be meant so."""
    if missing.label_chunks:
        distributed.warn(
            f"labels: {missing.label_chunks} of {missing.num_label_chunks} chunks are not in the "
            f"store and read as class {missing.label}, in {_images(missing.label_images)}; if they "
            f"are not meant to, write them, or ignore_index={missing.label} leaves that class out",
            LabelQCWarning,
        )
    if missing.classes.size:
        of = "class" if missing.classes.size == 1 else "classes"
        distributed.warn(
            f"pred_probs: chunks of {of} {_runs(missing.classes)} are not in the store and read as "
            f"the fill value, in {_images(missing.class_images)}; check that the predictions are "
            "complete",
            LabelQCWarning,
        )


def _images(images: Ints) -> str:
    if images.size == LISTED:
        return f"images {_runs(images)} and on"
    if images[-1] - images[0] == images.size - 1:
        return name_images(int(images[0]), int(images[-1]))
    return f"images {_runs(images)}"


def _runs(numbers: Ints) -> str:
    """Name the runs of sorted numbers.

    Examples
    --------
    >>> _runs(np.array([1, 2, 3, 7]))
    '1 to 3, 7'
    """
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    named = [f"{r[0]} to {r[-1]}" if r.size > 1 else str(r[0]) for r in runs[:SHOWN]]
    more = [f"and {len(runs) - SHOWN} more runs"] if len(runs) > SHOWN else []
    return ", ".join(named + more)
