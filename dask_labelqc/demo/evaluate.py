"""Hold an audit against the truth that only the demo knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dask_labelqc.demo.dataset import read_array, read_attributes
from dask_labelqc.errors import InputError
from dask_labelqc.typing import BoolArray, Floats, Ints

__all__ = [
    "ClassSummary",
    "ConfusedPair",
    "Evaluation",
    "MaskQuality",
    "RankedImage",
    "RankingQuality",
    "compare_masks",
    "evaluate",
    "most_confused",
    "rank_bad_images",
]


@dataclass(frozen=True)
class MaskQuality:
    """How well the issue mask meets the wrong pixels.

    Attributes
    ----------
    flagged : int
        Pixels that the audit calls issues.
    wrong : int
        Pixels whose given label is not the true one.
    hits : int
        Pixels that are both.
    """

    flagged: int
    wrong: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of the flagged pixels that are wrong; NaN if none is flagged."""
        return self.hits / self.flagged if self.flagged else float("nan")

    @property
    def recall(self) -> float:
        """Share of the wrong pixels that are flagged; NaN if none is wrong."""
        return self.hits / self.wrong if self.wrong else float("nan")


@dataclass(frozen=True)
class RankingQuality:
    """Where the bad images stand when all are sorted by score, the lowest first.

    Attributes
    ----------
    images, bad : int
        Number of images, and of those with a label error.
    at_front : int
        Bad images among the `bad` lowest scores.
    median_rank, worst_rank : float
        Of the bad images, counted from 1; NaN if there are none.
    average_precision : float
        Mean, over the bad images, of the share of bad images up to and including each; NaN if
        there are none.
    """

    images: int
    bad: int
    at_front: int
    median_rank: float
    worst_rank: float
    average_precision: float


@dataclass(frozen=True)
class RankedImage:
    """One image of the ranking: what the audit says of it, and what is true."""

    image: int
    score: float
    issues: int
    error: str
    error_class: str
    wrong: int


@dataclass(frozen=True)
class ConfusedPair:
    """Number of issues with this given label that the model takes for the other class."""

    given: str
    predicted: str
    pixels: int


@dataclass(frozen=True)
class ClassSummary:
    """One class: its confident threshold, the pixels labelled so, and the issues among them."""

    name: str
    threshold: float
    pixels: int
    issues: int


@dataclass(frozen=True)
class Evaluation:
    """All that the demo reports about an audit."""

    mask: MaskQuality
    ranking: RankingQuality
    worst: tuple[RankedImage, ...]
    confused: tuple[ConfusedPair, ...]
    classes: tuple[ClassSummary, ...]


def evaluate(
    dataset: str | Path, output: str | Path, *, worst: int = 8, pairs: int = 8, batch: int = 16
) -> Evaluation:
    """Compare the output of an audit with the truth of the demo's dataset.

    Parameters
    ----------
    dataset : str or Path
        Zarr group from `dask_labelqc.demo.dataset.write_dataset`.
    output : str or Path
        Zarr group that the audit wrote.
    worst, pairs : int
        How many of the worst images and of the most confused pairs of classes to name.
    batch : int
        Images that are in memory at a time.

    Returns
    -------
    Evaluation
        Exact counts and the figures derived from them.

    Raises
    ------
    InputError
        If an array is missing, or the audit is of another number of images.
    """
    names = tuple(read_attributes(dataset)["class_names"])
    scores = read_array(output, "image_score")
    kinds = read_array(dataset, "truth/error_kind")
    if len(scores) != len(kinds):
        raise InputError(
            f"output {str(output)!r} is of {len(scores)} images, the dataset has {len(kinds)}"
        )
    return Evaluation(
        mask=_compare_stored(dataset, output, len(scores), batch),
        ranking=rank_bad_images(scores, kinds > 0),
        worst=_worst_images(dataset, output, scores, names, worst),
        confused=most_confused(read_array(output, "issue_matrix"), names, pairs),
        classes=_summarize_classes(output, names),
    )


def compare_masks(issues: BoolArray, given: Ints, true: Ints) -> MaskQuality:
    """Count flagged pixels, wrong ones, and those that are both.

    Examples
    --------
    >>> import numpy as np
    >>> issues = np.array([True, True, False, False])
    >>> quality = compare_masks(issues, np.array([1, 1, 1, 1]), np.array([0, 1, 0, 0]))
    >>> quality
    MaskQuality(flagged=2, wrong=3, hits=1)
    >>> quality.precision
    0.5
    """
    wrong = given != true
    return MaskQuality(
        flagged=int(np.count_nonzero(issues)),
        wrong=int(np.count_nonzero(wrong)),
        hits=int(np.count_nonzero(issues & wrong)),
    )


def rank_bad_images(scores: Floats, bad: BoolArray) -> RankingQuality:
    """Say how far in front the bad images are; equal scores keep the order of the images.

    Examples
    --------
    >>> import numpy as np
    >>> rank_bad_images(np.array([0.1, 0.9, 0.2, 0.3]), np.array([True, False, False, True]))
    ... # doctest: +NORMALIZE_WHITESPACE
    RankingQuality(images=4, bad=2, at_front=1, median_rank=2.0, worst_rank=3.0,
                   average_precision=0.8333333333333333)
    """
    ranks = 1.0 + np.flatnonzero(bad[np.argsort(scores, kind="stable")])
    count = len(ranks)
    precisions = np.arange(1, count + 1) / ranks
    return RankingQuality(
        images=len(scores),
        bad=count,
        at_front=int(np.count_nonzero(ranks <= count)),
        median_rank=float(np.median(ranks)) if count else float("nan"),
        worst_rank=float(ranks[-1]) if count else float("nan"),
        average_precision=float(precisions.mean()) if count else float("nan"),
    )


def most_confused(matrix: Ints, names: tuple[str, ...], pairs: int) -> tuple[ConfusedPair, ...]:
    """Name the largest entries off the diagonal of a (given, predicted) count, largest first.

    Examples
    --------
    >>> import numpy as np
    >>> most_confused(np.array([[9, 2], [5, 0]]), ("car", "bus"), pairs=1)
    (ConfusedPair(given='bus', predicted='car', pixels=5),)
    """
    counts = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-counts, axis=None, kind="stable")[:pairs]
    return tuple(
        ConfusedPair(names[given], names[predicted], int(counts[given, predicted]))
        for given, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[given, predicted]
    )


def _compare_stored(
    dataset: str | Path, output: str | Path, images: int, batch: int
) -> MaskQuality:
    flagged = wrong = hits = 0
    for first in range(0, images, batch):
        some = slice(first, first + batch)
        part = compare_masks(
            read_array(output, "label_issues", some),
            read_array(dataset, "labels", some),
            read_array(dataset, "truth/true_labels", some),
        )
        flagged, wrong, hits = flagged + part.flagged, wrong + part.wrong, hits + part.hits
    return MaskQuality(flagged, wrong, hits)


def _worst_images(
    dataset: str | Path, output: str | Path, scores: Floats, names: tuple[str, ...], worst: int
) -> tuple[RankedImage, ...]:
    issues = read_array(output, "image_issue_count")
    truth = {
        name: read_array(dataset, f"truth/{name}")
        for name in ("error_kind", "error_class", "wrong_pixels")
    }
    kinds = read_attributes(Path(dataset) / "truth")["error_kinds"]
    return tuple(
        RankedImage(
            image=image,
            score=float(scores[image]),
            issues=int(issues[image]),
            error=kinds[truth["error_kind"][image]],
            error_class=names[truth["error_class"][image]] if truth["error_kind"][image] else "",
            wrong=int(truth["wrong_pixels"][image]),
        )
        for image in np.argsort(scores, kind="stable")[:worst].tolist()
    )


def _summarize_classes(output: str | Path, names: tuple[str, ...]) -> tuple[ClassSummary, ...]:
    columns = [
        read_array(output, name).tolist()
        for name in ("confident_threshold", "class_count", "class_issue_count")
    ]
    return tuple(ClassSummary(*row) for row in zip(names, *columns, strict=True))
