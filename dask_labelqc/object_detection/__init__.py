"""Label issues in object detection: boxes overlooked, badly placed, swapped or spurious.

`rank`, `filter` and `summary` have cleanlab's names, arguments and answers; `audit` gives
everything at once. All of them take cleanlab's lists, or the columnar dataset that `from_lists`,
`from_coco` and `from_yolo` make: see `dask_labelqc.object_detection.dataset`.
"""

from dask_labelqc.object_detection import filter, rank, summary
from dask_labelqc.object_detection.audit import audit
from dask_labelqc.object_detection.coco import from_coco
from dask_labelqc.object_detection.dataset import columnar_dataset, from_lists
from dask_labelqc.object_detection.yolo import from_yolo

__all__ = [
    "audit",
    "columnar_dataset",
    "filter",
    "from_coco",
    "from_lists",
    "from_yolo",
    "rank",
    "summary",
]
