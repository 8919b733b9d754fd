"""Audits of what a model predicts, while it does, and how they are finished."""

from dask_labelqc.inspectors.detection import DetectionInspector
from dask_labelqc.inspectors.finish import finish_audit
from dask_labelqc.inspectors.recorded_images import FinishPlan
from dask_labelqc.inspectors.segmentation import SegmentationInspector

__all__ = ["DetectionInspector", "FinishPlan", "SegmentationInspector", "finish_audit"]
