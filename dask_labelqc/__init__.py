"""Find the mislabeled pixels, boxes and examples of datasets larger than memory.

The names below are imported when they are first asked for: the command line, which every ``dask``
command loads, needs none of them to begin with.
"""

import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from dask_labelqc import (
        classification,
        experimental,
        files,
        object_detection,
        segmentation,
    )
    from dask_labelqc.classification import LabelInspector
    from dask_labelqc.errors import (
        BlockError,
        ClusterError,
        InputError,
        LabelQCError,
        LabelQCWarning,
        OutputError,
        StoreError,
        TakenOverError,
    )
    from dask_labelqc.inspectors import DetectionInspector, SegmentationInspector, finish_audit
    from dask_labelqc.pipeline import (
        BoxPlan,
        BoxReport,
        ExamplePlan,
        ExampleReport,
        ImageAudit,
        JobPlan,
        JobReport,
        PredictionWriter,
        RaggedPlan,
        audit_boxes_zarr,
        audit_examples_zarr,
        audit_files,
        audit_zarr,
        open_audit,
        plan_audit,
        plan_boxes_audit,
        plan_examples_audit,
    )

    __version__: str

__all__ = [
    "BlockError",
    "BoxPlan",
    "BoxReport",
    "ClusterError",
    "DetectionInspector",
    "ExamplePlan",
    "ExampleReport",
    "ImageAudit",
    "InputError",
    "JobPlan",
    "JobReport",
    "LabelInspector",
    "LabelQCError",
    "LabelQCWarning",
    "OutputError",
    "PredictionWriter",
    "RaggedPlan",
    "SegmentationInspector",
    "StoreError",
    "TakenOverError",
    "audit_boxes_zarr",
    "audit_examples_zarr",
    "audit_files",
    "audit_zarr",
    "classification",
    "experimental",
    "files",
    "finish_audit",
    "object_detection",
    "open_audit",
    "plan_audit",
    "plan_boxes_audit",
    "plan_examples_audit",
    "segmentation",
]

_PLACES = {
    "errors": (
        "BlockError",
        "ClusterError",
        "InputError",
        "LabelQCError",
        "LabelQCWarning",
        "OutputError",
        "StoreError",
        "TakenOverError",
    ),
    "classification": ("LabelInspector",),
    "inspectors": ("DetectionInspector", "SegmentationInspector", "finish_audit"),
    "pipeline": (
        *("BoxPlan", "ExamplePlan", "JobPlan", "RaggedPlan"),
        *("BoxReport", "ExampleReport", "JobReport"),
        *("ImageAudit", "PredictionWriter", "open_audit"),
        *("audit_boxes_zarr", "audit_examples_zarr", "audit_files", "audit_zarr"),
        *("plan_audit", "plan_boxes_audit", "plan_examples_audit"),
    ),
}

if not _typing.TYPE_CHECKING:  # to a type checker every name would be one of the package

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _import_module("importlib.metadata").version("dask-labelqc")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for place, names in _PLACES.items():
            if name in names:
                module = _import_module(f"{__name__}.{place}")
                return globals().setdefault(name, getattr(module, name))
        return _import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
