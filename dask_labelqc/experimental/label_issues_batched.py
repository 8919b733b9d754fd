"""The module path of ``cleanlab.experimental.label_issues_batched``."""

from dask_labelqc.classification import LabelInspector, find_label_issues_batched

__all__ = ["LabelInspector", "find_label_issues_batched"]
