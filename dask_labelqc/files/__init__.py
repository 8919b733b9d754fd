"""Labels and predictions in files: readers of the formats that the field uses.

Each is a few lines over the library of its format, which is imported where it is used. A reader of
your own has ``ids`` and ``read(id)``; see `ImageReader`.
"""

from dask_labelqc.files.class_colors import read_colors
from dask_labelqc.files.description import describe
from dask_labelqc.files.opening import labels, pred_probs
from dask_labelqc.files.pairs import paired
from dask_labelqc.files.reader import Form, ImageReader, Reader

__all__ = [
    "Form",
    "ImageReader",
    "Reader",
    "describe",
    "labels",
    "paired",
    "pred_probs",
    "read_colors",
]
