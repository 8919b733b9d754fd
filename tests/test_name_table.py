"""The table of names in the docs is true: each name is there, and each tick is tried."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from zarr.storage import MemoryStore

from dask_labelqc.classification import LabelInspector, find_label_issues_batched
from dask_labelqc.object_detection import filter as boxes_filter
from dask_labelqc.object_detection import from_lists
from dask_labelqc.object_detection import rank as boxes_rank
from dask_labelqc.object_detection import summary as boxes_summary
from dask_labelqc.segmentation import filter as pixels_filter
from dask_labelqc.segmentation import rank as pixels_rank
from dask_labelqc.segmentation import summary as pixels_summary
from tests.object_detection.boxes import make_lists

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "from-cleanlab.md"
CONTAINERS = ["NumPy", "Zarr", "Dask", "xarray"]
HEADER = "| cleanlab | dask_labelqc | NumPy | Zarr | Dask | xarray |"


def table() -> Iterator[Any]:
    """Return (cleanlab's name, our name, the containers that are claimed) of each row."""
    text = PAGE.read_text().split(HEADER)[1].split("\n\n")[0]
    for line in text.splitlines()[2:]:
        theirs, ours, *ticks = (cell.strip() for cell in line.strip("|").split("|"))
        assert set(ticks) <= {"✓", ""}, line
        claimed = [name for name, tick in zip(CONTAINERS, ticks, strict=True) if tick]
        yield theirs.strip("`"), ours.strip("`"), claimed


ROWS = list(table())


def look_up(package: Any, name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), attribute)


class Inputs:
    """Tiny datasets in a container."""

    def __init__(self, container: Any, path: Any) -> None:
        self.container, self.path = container, path
        rng = np.random.default_rng(0)
        self._masks = rng.random((4, 6, 5)) < 0.4
        self._maps = rng.integers(0, 3, (4, 6, 5))
        self._map_probs = np.moveaxis(rng.dirichlet(np.full(3, 0.5), (4, 6, 5)), -1, 1)
        self._labels = rng.integers(0, 3, 60)
        self._probs = rng.dirichlet(np.full(3, 0.5), 60)
        self._scores = rng.random(12)

    def give(self, array: Any, *dims: Any) -> Any:
        if self.container == "Zarr":
            chunks = (max(len(array) // 2, 1), *array.shape[1:])
            return zarr.create_array(MemoryStore(), data=np.ascontiguousarray(array), chunks=chunks)
        if self.container == "Dask":
            return da.from_array(array, chunks=(2, *array.shape[1:]))
        return xr.DataArray(array, dims=dims) if self.container == "xarray" else array

    @property
    def pixels(self) -> Any:
        """Labels and predictions of images."""
        return (
            self.give(self._maps, "image", "y", "x"),
            self.give(self._map_probs, "image", "class", "y", "x"),
        )

    @property
    def flagged(self) -> Any:
        """Issues, labels and predictions of images."""
        return self.give(self._masks, "image", "y", "x"), *self.pixels

    @property
    def examples(self) -> Any:
        """Labels and predictions of examples."""
        return self.give(self._labels, "example"), self.give(self._probs, "example", "class")

    @property
    def scores(self) -> Any:
        return self.give(self._scores, "image")

    @property
    def boxes(self) -> Any:
        """Cleanlab's two lists, or the columnar dataset; for Zarr its path."""
        labels, predictions = make_lists(3)
        if self.container == "NumPy":
            return labels, predictions
        dataset = from_lists(labels, predictions)
        if self.container == "Dask":
            return (dataset.chunk(given_box=5, predicted_box=9, image_edge=4),)
        if self.container == "Zarr":
            dataset.to_zarr(self.path / "boxes.zarr", mode="w", consolidated=False)
            return (str(self.path / "boxes.zarr"),)
        return (dataset,)

    @property
    def picture(self) -> Any:
        return self.give(self._map_probs[0].transpose(1, 2, 0), "y", "x", "color")


def pooled(inputs: Any) -> Any:
    labels, _ = lists = make_lists(3)
    scores = boxes_rank.compute_badloc_box_scores(labels=labels, predictions=lists[1])
    if inputs.container == "NumPy":
        return boxes_rank.pool_box_scores_per_image(scores)
    offsets = np.cumsum([0, *map(len, scores)])
    flat = inputs.give(np.concatenate(scores), "given_box")
    return boxes_rank.pool_box_scores_per_image(flat, offsets=offsets)


def inspected(inputs: Any) -> Any:
    inspector = LabelInspector(num_class=3, verbose=False)
    labels, pred_probs = inputs.examples
    for batch in (slice(0, 25), slice(25, 60)):
        inspector.update_confident_thresholds(labels[batch], pred_probs[batch])
    for batch in (slice(0, 25), slice(25, 60)):
        inspector.score_label_quality(labels[batch], pred_probs[batch])
    return [
        inspector.get_confident_thresholds(),
        inspector.get_num_issues(),
        inspector.get_quality_scores(),
        inspector.get_label_issues(),
    ]


def displayed(inputs: Any) -> Any:
    issues, labels, pred_probs = inputs.flagged
    return pixels_summary.display_issues(
        issues, labels=labels, pred_probs=pred_probs, class_names=["a", "b", "c"], top=2
    )


def visualized(inputs: Any) -> Any:
    labels, predictions = make_lists(3)
    return boxes_summary.visualize(inputs.picture, label=labels[1], prediction=predictions[1])


def of_boxes(kind: Any, inputs: Any) -> Any:
    """Scores of all boxes, one image after the other."""
    compute = getattr(boxes_rank, f"compute_{kind}_box_scores")
    scores = compute(**dict(zip(("labels", "predictions"), inputs.boxes, strict=False)))
    return np.concatenate(scores) if isinstance(scores, list) else scores


def summarized(name: str, inputs: Any) -> Any:
    return getattr(boxes_summary, name)(*inputs.boxes)


EXERCISES = {
    "segmentation.filter.find_label_issues": lambda i: pixels_filter.find_label_issues(
        *i.pixels, verbose=False
    ),
    "segmentation.rank.get_label_quality_scores": lambda i: pixels_rank.get_label_quality_scores(
        *i.pixels, verbose=False
    ),
    "segmentation.rank.issues_from_scores": lambda i: [
        pixels_rank.issues_from_scores(i.scores, threshold=0.5),
        pixels_rank.issues_from_scores(i.scores, i.scores, threshold=0.5),
    ],
    "segmentation.summary.display_issues": displayed,
    "segmentation.summary.common_label_issues": lambda i: pixels_summary.common_label_issues(
        *i.flagged, verbose=False
    ),
    "segmentation.summary.filter_by_class": lambda i: pixels_summary.filter_by_class(1, *i.flagged),
    "classification.find_label_issues_batched": lambda i: find_label_issues_batched(
        *i.examples, verbose=False
    ),
    "classification.LabelInspector": inspected,
    "object_detection.filter.find_label_issues": lambda i: [
        boxes_filter.find_label_issues(*i.boxes),
        boxes_filter.find_label_issues(*i.boxes, return_indices_ranked_by_score=True),
    ],
    "object_detection.rank.get_label_quality_scores": (
        lambda i: boxes_rank.get_label_quality_scores(*i.boxes)
    ),
    "object_detection.rank.issues_from_scores": lambda i: boxes_rank.issues_from_scores(
        i.scores, threshold=0.5
    ),
    "object_detection.rank.pool_box_scores_per_image": pooled,
    "object_detection.summary.visualize": visualized,
}
EXERCISES |= {
    f"object_detection.rank.compute_{kind}_box_scores": partial(of_boxes, kind)
    for kind in ("overlooked", "badloc", "swap", "spurious")
}
EXERCISES |= {
    f"object_detection.summary.{name}": partial(summarized, name)
    for name in (
        "object_counts_per_image",
        "bounding_box_size_distribution",
        "class_label_distribution",
        "get_sorted_bbox_count_idxs",
        "plot_class_size_distributions",
        "plot_class_distribution",
        "calculate_per_class_metrics",
        "get_average_per_class_confusion_matrix",
    )
}


def plain(answer: Any) -> Any:
    """Return an answer as NumPy arrays, numbers, lists and dictionaries; figures as pictures."""
    if isinstance(answer, Figure):
        canvas = FigureCanvasAgg(answer)
        canvas.draw()
        return np.array(canvas.buffer_rgba())
    if isinstance(answer, xr.DataArray | da.Array):
        (computed,) = dask.compute(answer)
        assert computed.shape == answer.shape or np.isnan(answer.shape).any()
        return np.asarray(computed)
    if isinstance(answer, pd.DataFrame):
        return answer.to_dict("list")
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [plain(value) for value in answer]
    return answer


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(autouse=True)
def _without_a_screen() -> Iterator[Any]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_every_row_is_exercised_and_every_exercise_has_a_row() -> None:
    names = [ours for _, ours, _ in ROWS]
    assert sorted(names) == sorted(EXERCISES)


@pytest.mark.parametrize(("theirs", "ours"), [row[:2] for row in ROWS])
def test_the_names_are_there(theirs: Any, ours: Any) -> None:
    mine = look_up("dask_labelqc", ours)
    if not theirs:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        assert callable(look_up("cleanlab", theirs))
    # With only the import line changed.
    assert look_up("dask_labelqc", theirs) is mine


CLAIMS = [(ours, container) for _, ours, claimed in ROWS for container in claimed]


@pytest.mark.parametrize(("name", "container"), CLAIMS)
def test_every_container_gives_the_same_answer(name: str, container: Any, tmp_path: Path) -> None:
    exercise = EXERCISES[name]
    expected = plain(exercise(Inputs("NumPy", tmp_path)))
    assert len(expected)
    assert_same(plain(exercise(Inputs(container, tmp_path))), expected)


def test_every_tick_is_set() -> None:
    assert [ours for _, ours, claimed in ROWS if claimed != CONTAINERS] == []
