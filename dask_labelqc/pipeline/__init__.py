"""The resumable job: Zarr in, Zarr out."""

from dask_labelqc.pipeline.box_audit import audit_boxes_zarr, plan_boxes_audit
from dask_labelqc.pipeline.example_audit import (
    audit_examples_zarr,
    plan_examples_audit,
)
from dask_labelqc.pipeline.file_audit import audit_files
from dask_labelqc.pipeline.image_audit import audit_zarr, plan_audit
from dask_labelqc.pipeline.measures import Failure
from dask_labelqc.pipeline.opened import ImageAudit, open_audit
from dask_labelqc.pipeline.plans import BoxPlan, ExamplePlan, JobPlan, Needs, RaggedPlan
from dask_labelqc.pipeline.prediction_writer import PredictionWriter
from dask_labelqc.pipeline.report import BoxReport, ExampleReport, JobReport, Report

__all__ = [
    "BoxPlan",
    "BoxReport",
    "ExamplePlan",
    "ExampleReport",
    "Failure",
    "ImageAudit",
    "JobPlan",
    "JobReport",
    "Needs",
    "PredictionWriter",
    "RaggedPlan",
    "Report",
    "audit_boxes_zarr",
    "audit_examples_zarr",
    "audit_files",
    "audit_zarr",
    "open_audit",
    "plan_audit",
    "plan_boxes_audit",
    "plan_examples_audit",
]
