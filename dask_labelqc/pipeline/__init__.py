"""The resumable job: Zarr in, Zarr out."""

from dask_labelqc.pipeline.box_audit import BoxPlan, audit_boxes_zarr, plan_boxes_audit
from dask_labelqc.pipeline.image_audit import JobPlan, audit_zarr, plan_audit
from dask_labelqc.pipeline.report import BoxReport, JobReport
from dask_labelqc.pipeline.stages import Failure

__all__ = [
    "BoxPlan",
    "BoxReport",
    "Failure",
    "JobPlan",
    "JobReport",
    "audit_boxes_zarr",
    "audit_zarr",
    "plan_audit",
    "plan_boxes_audit",
]
