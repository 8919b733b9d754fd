"""Label errors in segmentation masks."""

from dask_labelqc.segmentation import filter, rank, summary
from dask_labelqc.segmentation.dataset import audit
from dask_labelqc.segmentation.filter import find_label_issues
from dask_labelqc.segmentation.rank import get_label_quality_scores, issues_from_scores
from dask_labelqc.segmentation.summary import (
    common_label_issues,
    display_issues,
    filter_by_class,
)

__all__ = [
    "audit",
    "common_label_issues",
    "display_issues",
    "filter",
    "filter_by_class",
    "find_label_issues",
    "get_label_quality_scores",
    "issues_from_scores",
    "rank",
    "summary",
]
