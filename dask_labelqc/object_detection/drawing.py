"""Figures of detection datasets: distributions by class, and the boxes of an image.

Matplotlib is imported by the functions that draw; every figure is returned as well as shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_labelqc.figures import pyplot, show
from dask_labelqc.object_detection.answers import ClassNames
from dask_labelqc.object_detection.dataset import Columnar
from dask_labelqc.object_detection.distributions import (
    bounding_box_size_distribution,
    class_label_distribution,
)
from dask_labelqc.object_detection.lists import LabelLists, PredictionLists, separate_prediction
from dask_labelqc.object_detection.options import check_fraction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_class_distribution", "plot_class_size_distributions", "visualize"]

MAX_CLASSES_SHOWN = 10
GIVEN_COLOR, PREDICTED_COLOR = "red", "blue"
SAVED_FORMATS = ("png", "pdf", "ps", "eps", "svg")


def plot_class_size_distributions(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    class_names: ClassNames | None = None,
    class_to_show: int = MAX_CLASSES_SHOWN,
    **kwargs: Any,
) -> list[Figure]:
    """Draw histograms of the areas of given and predicted boxes, one figure a class.

    Parameters
    ----------
    labels, predictions, class_names
        As in `bounding_box_size_distribution`.
    class_to_show
        How many classes, those with the most given boxes first.
    **kwargs
        Passed on to ``matplotlib.pyplot.show``.

    Returns
    -------
    list of matplotlib.figure.Figure
    """
    plt = pyplot()
    given, predicted = bounding_box_size_distribution(
        labels, predictions, class_names=class_names, sort=True
    )
    figures: list[Figure] = []
    for name in list(given)[:class_to_show]:
        figure, axes = plt.subplots(1, 2, figsize=(10, 5))
        figure.suptitle(f"Sizes of the boxes of class {name}")
        for axis, title, areas in zip(
            axes, ("given", "predicted"), (given[name], predicted.get(name, [])), strict=True
        ):
            axis.hist(areas, bins="auto")
            axis.set(xlabel="area of the box (square pixels)", ylabel="boxes", title=title)
        figures.append(figure)
        show(figure, **kwargs)
    return figures


def plot_class_distribution(
    labels: LabelLists | Columnar,
    predictions: PredictionLists | None = None,
    class_names: ClassNames | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the shares of the classes among given and among predicted boxes as two pies.

    Parameters
    ----------
    labels, predictions, class_names
        As in `class_label_distribution`.
    **kwargs
        Passed on to ``matplotlib.pyplot.show``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    plt = pyplot()
    shares = class_label_distribution(labels, predictions, class_names=class_names)
    figure: Figure
    figure, axes = plt.subplots(1, 2, figsize=(10, 5))
    figure.suptitle("Classes of the boxes")
    for axis, title, share in zip(axes, ("given", "predicted"), shares, strict=True):
        axis.pie(list(share.values()), labels=list(share), autopct="%1.1f%%")
        axis.set_title(title)
    show(figure, **kwargs)
    return figure


def visualize(
    image: Any,
    *,
    label: Mapping[str, Any] | None = None,
    prediction: Any = None,
    prediction_threshold: float | None = None,
    overlay: bool = True,
    class_names: Mapping[Any, Any] | None = None,
    figsize: tuple[int, int] | None = None,
    save_path: str | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw an image with its given boxes in red and its predicted boxes in blue.

    Parameters
    ----------
    image
        (H, W) or (H, W, 3) array, PIL image, or the path of an image file.
    label
        ``{"bboxes": (L, 4), "labels": (L,)}``, x1, y1, x2, y2 in pixels.
    prediction
        K arrays (M, 5): x1, y1, x2, y2, probability.
    prediction_threshold
        Predictions that are not more probable than this are left out.
    overlay
        One picture with both, or two side by side: given boxes left, predicted boxes right.
    class_names
        ``{"0": name, ...}``, for the legend.
    figsize
        Width and height in inches.
    save_path
        Where to save the figure; the suffix (png, pdf, ps, eps, svg) is the format.
    **kwargs
        Passed on to ``matplotlib.pyplot.show``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if prediction_threshold is not None:
        check_fraction("prediction_threshold", prediction_threshold)
    plt = pyplot()
    if isinstance(image, (str, Path)):
        image = plt.imread(image)
    panels = 1 if overlay else 2
    figure: Figure
    figure, grid = plt.subplots(
        1,
        panels,
        frameon=False,
        squeeze=False,
        figsize=figsize or ((8, 5) if overlay else (14, 10)),
    )
    axes = grid[0]
    for axis in axes:
        axis.axis("off")
        axis.imshow(image)
    if label is not None:
        _draw_boxes(axes[0], label["bboxes"], label["labels"], GIVEN_COLOR, "-")
    if prediction is not None:
        boxes, classes = _probable(prediction, prediction_threshold)
        _draw_boxes(axes[-1], boxes, classes, PREDICTED_COLOR, "-.")
    legend = []
    if label is not None or prediction is not None:
        legend = [_legend(axes[-1], class_names, label is not None, prediction is not None)]
    if save_path:
        suffix = save_path.rsplit(".", 1)[-1]
        figure.savefig(
            save_path,
            format=suffix if suffix in SAVED_FORMATS else None,
            bbox_extra_artists=legend or None,
            bbox_inches="tight",
            pad_inches=0.5,
            transparent=True,
        )
    show(figure, **kwargs)
    return figure


def _probable(prediction: Any, threshold: float | None) -> tuple[Any, Any]:
    boxes, classes, probs = separate_prediction(prediction)
    if threshold is None:
        return boxes, classes
    if probs.ndim == 2:
        probs = probs.max(axis=0)
    kept = probs > threshold
    return boxes[kept], classes[kept]


def _draw_boxes(axis: Any, boxes: Any, classes: Any, color: str, linestyle: str) -> None:
    from matplotlib.patches import Rectangle

    for (x1, y1, x2, y2), k in zip(boxes, classes, strict=False):
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, edgecolor=color, facecolor="none", ls=linestyle)
        )
        corner = x1 + 10 if color == GIVEN_COLOR else x2 - 10
        background = {"facecolor": color, "edgecolor": color, "alpha": 0.35, "pad": 2}
        axis.annotate(
            str(k),
            (corner, y1 + 12),
            fontsize=8,
            fontweight="bold",
            color="white",
            ha="center",
            va="center",
            bbox=background,
        )


def _legend(axis: Any, class_names: Mapping[Any, Any] | None, given: bool, predicted: bool) -> Any:
    from matplotlib.lines import Line2D

    handles = []
    if given:
        handles.append(Line2D([], [], color=GIVEN_COLOR, marker="s", ls="", label="given"))
    if predicted:
        handles.append(Line2D([], [], color=PREDICTED_COLOR, marker="s", ls="", label="predicted"))
    for key, name in list((class_names or {}).items())[:MAX_CLASSES_SHOWN]:
        handles.append(Line2D([], [], color="black", marker=f"${key}$", ls="", label=str(name)))
    return axis.legend(handles=handles, bbox_to_anchor=(1.04, 0.05), loc="lower left")
