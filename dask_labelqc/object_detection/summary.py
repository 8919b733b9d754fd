"""Count, measure, draw and evaluate the boxes of a detection dataset.

The names, arguments and answers are those of `cleanlab.object_detection.summary`; dictionaries
are in the order of the class ids. Every function also takes the columnar dataset as `labels`, with
`predictions` left out; a lazy one is computed block by block. The figures are returned as well as
shown, and need Matplotlib: ``pip install "dask-labelqc[plot]"``.
"""

from dask_labelqc.object_detection.distributions import (
    bounding_box_size_distribution,
    class_label_distribution,
    get_sorted_bbox_count_idxs,
    object_counts_per_image,
)
from dask_labelqc.object_detection.drawing import (
    plot_class_distribution,
    plot_class_size_distributions,
    visualize,
)
from dask_labelqc.object_detection.metrics import (
    calculate_per_class_metrics,
    get_average_per_class_confusion_matrix,
)

__all__ = [
    "bounding_box_size_distribution",
    "calculate_per_class_metrics",
    "class_label_distribution",
    "get_average_per_class_confusion_matrix",
    "get_sorted_bbox_count_idxs",
    "object_counts_per_image",
    "plot_class_distribution",
    "plot_class_size_distributions",
    "visualize",
]
