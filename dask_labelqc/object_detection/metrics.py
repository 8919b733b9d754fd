"""How well the predictions agree with the given boxes, class by class."""

from __future__ import annotations

from collections.abc import Mapping

import dask

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes_matches import IOU_THRESHOLDS
from dask_labelqc.object_detection.answers import ClassName, ClassNames, names_by_id
from dask_labelqc.object_detection.blocks import BLOCK_BOXES, open_boxes
from dask_labelqc.object_detection.dataset import Columnar
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import Survey, survey

__all__ = ["calculate_per_class_metrics", "get_average_per_class_confusion_matrix"]

TINY = 1e-100


def get_average_per_class_confusion_matrix(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    num_procs: int = 1,
    class_names: ClassNames | None = None,
) -> dict[ClassName, dict[str, float]]:
    """Count true positives, false positives and false negatives of each class.

    Parameters
    ----------
    labels, predictions
        As in `dask_labelqc.object_detection.rank.get_label_quality_scores`.
    num_procs
        Taken for compatibility; lazy datasets use the Dask scheduler.
    class_names
        ``{"0": name, ...}``, or K names: the keys of the answer; by default the dataset's own,
        class ids if it has none.

    Returns
    -------
    dict
        ``{class: {"TP": float, "FP": float, "FN": float}}``, summed over the IoU thresholds 0.5,
        0.55, ..., 0.95 and divided by their number times the number of classes, as in cleanlab.

    Raises
    ------
    InputError
        There are fewer names than classes.

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    >>> get_average_per_class_confusion_matrix(labels, [[[[0, 0, 9, 9, 0.9]]]])
    {0: {'TP': 1.0, 'FP': 0.0, 'FN': 0.0}}
    """
    boxes = open_boxes(labels, predictions)
    names = _names(boxes.names(names_by_id(class_names)), boxes.num_classes)
    total, matched = survey(boxes, BoxScoreOptions().alpha, BLOCK_BOXES, matches=True)
    del matched  # the precision needs the match lists, the counts do not
    found: Survey = dask.compute(total)[0]
    thresholds = len(IOU_THRESHOLDS)
    average = {name: {"TP": 0.0, "FP": 0.0, "FN": 0.0} for name in names}
    counts = zip(
        names, found.true_positives, found.predicted_count, found.given_count, strict=False
    )
    for name, right, predicted, given in counts:
        parts = {
            "TP": right,
            "FP": thresholds * predicted - right,
            "FN": thresholds * given - right,
        }
        for key, count in parts.items():
            average[name][key] += int(count) / (thresholds * boxes.num_classes)
    return average


def calculate_per_class_metrics(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    num_procs: int = 1,
    class_names: ClassNames | None = None,
) -> dict[ClassName, dict[str, float]]:
    """Return precision, recall and F1 of the predictions for each class.

    Parameters
    ----------
    labels, predictions, num_procs, class_names
        As in `get_average_per_class_confusion_matrix`.

    Returns
    -------
    dict
        ``{class: {"average precision": float, "average recall": float, "average f1": float}}``,
        0 for a class without boxes.

    Examples
    --------
    >>> import numpy as np
    >>> labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    >>> calculate_per_class_metrics(labels, [[[[0, 0, 9, 9, 0.9]]]])[0]["average f1"]
    1.0
    """
    average = get_average_per_class_confusion_matrix(labels, predictions, num_procs, class_names)
    metrics = {}
    for name, counts in average.items():
        precision = counts["TP"] / (counts["TP"] + counts["FP"] + TINY)
        recall = counts["TP"] / (counts["TP"] + counts["FN"] + TINY)
        metrics[name] = {
            "average precision": precision,
            "average recall": recall,
            "average f1": 2 * precision * recall / (precision + recall + TINY),
        }
    return metrics


def _names(class_names: Mapping[str, ClassName] | None, num_classes: int) -> list[ClassName]:
    if class_names is None:
        return list(range(num_classes))
    if len(class_names) < num_classes:
        raise InputError(f"class_names has {len(class_names)} names for {num_classes} classes")
    return [class_names[key] for key in sorted(class_names, key=int)]
