"""The resumable job: Zarr in, Zarr out."""

from dask_labelqc.pipeline.info import JobPlan, plan_audit
from dask_labelqc.pipeline.job import JobReport, audit_zarr
from dask_labelqc.pipeline.stages import Failure

__all__ = ["Failure", "JobPlan", "JobReport", "audit_zarr", "plan_audit"]
