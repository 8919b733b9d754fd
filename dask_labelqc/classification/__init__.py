"""Label errors in classification datasets."""

from dask_labelqc.classification.filter import find_label_issues_batched
from dask_labelqc.classification.inspector import LabelInspector

__all__ = ["LabelInspector", "find_label_issues_batched"]
