"""Find the mislabeled pixels, boxes and examples of datasets larger than memory."""

from importlib import metadata

from dask_labelqc import classification, experimental, object_detection, segmentation
from dask_labelqc.errors import InputError, LabelQCError, LabelQCWarning, OutputError
from dask_labelqc.pipeline import JobPlan, JobReport, audit_zarr, plan_audit

__all__ = [
    "InputError",
    "JobPlan",
    "JobReport",
    "LabelQCError",
    "LabelQCWarning",
    "OutputError",
    "audit_zarr",
    "classification",
    "experimental",
    "object_detection",
    "plan_audit",
    "segmentation",
]

__version__ = metadata.version("dask-labelqc")
