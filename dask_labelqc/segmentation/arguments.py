"""The keyword arguments of the functions whose answer depends on the container, for overloads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.typing import LabelDownsample, Validate

__all__ = ["Dims", "IssueArguments", "Method", "ScoreArguments"]

Method = Literal["softmin", "num_pixel_issues"]


class Dims(TypedDict, total=False):
    """How dimensions are found."""

    image_dim: ImageDim
    class_dim: ClassDim


class IssueArguments(Dims, total=False):
    """Of `find_label_issues`."""

    batch_size: int | None
    n_jobs: int | None
    verbose: bool
    downsample: int
    label_downsample: LabelDownsample
    ignore_index: int | Iterable[int] | None
    from_logits: bool
    validate: Validate


class ScoreArguments(IssueArguments, total=False):
    """Of `get_label_quality_scores`."""

    method: Method
    temperature: float
