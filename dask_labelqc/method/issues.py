"""Stages B to D: thresholds, the number of issues, and the issues among the candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dask_labelqc.extent import Region
from dask_labelqc.method.parameters import Parameters
from dask_labelqc.method.search import Search
from dask_labelqc.method.summarize import Candidates, Statistics
from dask_labelqc.typing import BoolArray, Floats, Ints

__all__ = [
    "Issues",
    "count_off_diagonal",
    "find_issues",
    "is_confident",
    "start_search",
]

THRESHOLD_SLACK = 1e-6


def is_confident(confidence: Floats, predicted: Ints, thresholds: Floats) -> BoolArray:
    """Return which predictions reach the threshold of the class that they predict.

    Parameters
    ----------
    confidence, predicted
        (C,): m and a.
    thresholds
        float64 (K,).

    Examples
    --------
    >>> is_confident(np.array([0.5, 0.5]), np.array([0, 1]), np.array([0.5, 0.6]))
    array([ True, False])
    """
    confident: BoolArray = confidence >= (thresholds - THRESHOLD_SLACK)[predicted]
    return confident


def count_off_diagonal(candidates: Candidates, thresholds: Floats) -> int:
    """Count the cells whose predicted class is another one, and confidently so.

    Agrees with the `off_diagonal` estimate of `cleanlab.experimental.label_issues_batched`.
    """
    confident = is_confident(candidates.confidence, candidates.predicted, thresholds)
    return int(np.count_nonzero(confident & (candidates.given != candidates.predicted)))


def start_search(statistics: Statistics, num_issues: int, params: Parameters) -> Search:
    """Begin the search for the last selected key; the first digit is known already."""
    return Search.start(params.key_space, num_issues).narrowed(statistics.histogram)


@dataclass(frozen=True)
class Issues:
    """The label issues of a region.

    Attributes
    ----------
    extent
        The region, in pixels.
    position, given, predicted
        (I,): flat position in the region, given and predicted class.
    num_classes
        K.
    """

    extent: Region
    position: Ints
    given: Ints
    predicted: Ints
    num_classes: int

    def matrix(self) -> Ints:
        """Count the issues of each pair of given and predicted class, int64 (K, K)."""
        pairs = self.given.astype(np.int64) * self.num_classes + self.predicted
        shape = self.num_classes, self.num_classes
        return np.bincount(pairs, minlength=self.num_classes**2).reshape(shape)

    def per_image(self) -> Ints:
        """Count the issues of each image of the region, int64 (n,)."""
        return self.extent.per_image(self.position)

    def mask(self) -> BoolArray:
        """Return the boolean mask of the region."""
        mask = np.zeros(self.extent.size, np.bool_)
        mask[self.position] = True
        return mask.reshape(self.extent.shape)

    def __sizeof__(self) -> int:
        return self.position.nbytes + self.given.nbytes + self.predicted.nbytes


def find_issues(candidates: Candidates, search: Search, params: Parameters) -> Issues:
    """Return the selected pixels of a region that disagree with their prediction."""
    if search.last is None:
        raise ValueError(f"the search has not ended: {search}")
    selected = (
        candidates.keys(params).up_to(search.last)
        if search.last
        else np.zeros(candidates.position.size, np.bool_)
    )
    if params.downsample > 1:
        keep = selected[candidates.pixel_cell]
        pixels = candidates.pixel_position, candidates.pixel_given, candidates.pixel_predicted
    else:
        keep = selected & (candidates.given != candidates.predicted)
        pixels = candidates.position, candidates.given, candidates.predicted
    position, given, predicted = (values[keep] for values in pixels)
    extent = candidates.extent.refined(params.factors)
    return Issues(extent, position, given, predicted, params.num_classes)
