from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import from_lists, rank, summary

SAME = dict.fromkeys("0123", "same")
NAMES = {str(k): f"class {k}" for k in range(4)}


def test_counts_are_cleanlabs(cleanlab: Any, lists: Any, sources: Any) -> None:
    labels, predictions = lists(0)
    expected = cleanlab.summary.object_counts_per_image(labels, predictions)
    expected_sorted = cleanlab.summary.get_sorted_bbox_count_idxs(labels, predictions)
    assert summary.object_counts_per_image(labels, predictions) == expected
    assert summary.get_sorted_bbox_count_idxs(labels, predictions) == expected_sorted
    for source in sources(labels, predictions).values():
        assert summary.object_counts_per_image(source) == expected
        assert summary.get_sorted_bbox_count_idxs(source) == expected_sorted


@pytest.mark.parametrize("class_names", [None, NAMES, {"2": "two"}])
@pytest.mark.parametrize("sort", [True, False])
def test_sizes_are_cleanlabs(
    cleanlab: Any, lists: Any, sources: Any, class_names: Any, sort: Any
) -> None:
    labels, predictions = lists(1, 12)
    options = {"class_names": class_names, "sort": sort}
    expected = cleanlab.summary.bounding_box_size_distribution(labels, predictions, **options)
    forms = [(labels, predictions), *((s, None) for s in sources(labels, predictions).values())]
    for form in forms:
        found = summary.bounding_box_size_distribution(*form, **options)
        for mine, theirs in zip(found, expected, strict=True):
            kinds = {list if form[1] else np.ndarray} if mine else set()
            assert {type(areas) for areas in mine.values()} == kinds
            mine = {k: list(areas) for k, areas in mine.items()}
            assert mine == {k: pytest.approx(areas) for k, areas in theirs.items()}
            if sort:
                assert list(map(len, mine.values())) == list(map(len, theirs.values()))


def test_sizes_of_columns_take_a_few_bytes_a_box(lists: Any) -> None:
    """Each area is held twice, in its block's part and in the answer; no Python numbers."""
    dataset = from_lists(*lists(6, 300, given=200, predicted=200))
    boxes = dataset.sizes["given_box"] + dataset.sizes["predicted_box"]
    block = 60  # bytes a box while a block is read, here all of them
    summary.bounding_box_size_distribution(dataset)
    tracemalloc.start()
    found = summary.bounding_box_size_distribution(dataset)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(areas) for side in found for areas in side.values()) == boxes
    assert kept < 9 * boxes
    assert peak < (16 + block) * boxes


@pytest.mark.parametrize("blocks", [3, 50])
def test_sizes_in_any_blocks(lists: Any, monkeypatch: pytest.MonkeyPatch, blocks: Any) -> None:
    labels, predictions = lists(6, 12)
    expected = summary.bounding_box_size_distribution(labels, predictions, class_names=SAME)
    monkeypatch.setattr("dask_labelqc.object_detection.distributions.BLOCK_BOXES", blocks)
    dataset = from_lists(labels, predictions)
    found = summary.bounding_box_size_distribution(dataset, class_names=SAME)
    for mine, theirs in zip(found, expected, strict=True):
        assert {name: areas.tolist() for name, areas in mine.items()} == theirs


@pytest.mark.parametrize("class_names", [None, NAMES])
def test_shares_are_cleanlabs(cleanlab: Any, lists: Any, sources: Any, class_names: Any) -> None:
    labels, predictions = lists(2, 12)
    expected = cleanlab.summary.class_label_distribution(
        labels, predictions, class_names=class_names
    )
    forms = [(labels, predictions), *((s, None) for s in sources(labels, predictions).values())]
    for form in forms:
        assert summary.class_label_distribution(*form, class_names=class_names) == expected
    with pytest.raises(InputError, match=r"class_names has no name for class \d; it has \['9'\]"):
        summary.class_label_distribution(labels, predictions, class_names={"9": "nine"})


TABLES = (
    summary.bounding_box_size_distribution,
    summary.class_label_distribution,
    summary.calculate_per_class_metrics,
    summary.get_average_per_class_confusion_matrix,
)


def plain(answer: Any) -> Any:
    """An answer with lists in place of arrays, which have no one truth."""
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    if isinstance(answer, tuple):
        return tuple(map(plain, answer))
    return answer.tolist() if isinstance(answer, np.ndarray) else answer


@pytest.mark.parametrize("table", TABLES)
def test_the_names_of_the_dataset_are_the_default(lists: Any, table: Any) -> None:
    """If they tell its classes apart."""
    labels, predictions = lists(2, 12)
    named = from_lists(labels, predictions, class_names=list(NAMES.values()))
    assert plain(table(named)) == plain(table(labels, predictions, class_names=NAMES))
    others = {str(k): f"{k}!" for k in range(4)}
    assert plain(table(named, class_names=others)) != plain(table(named))
    alike = from_lists(labels, predictions, class_names=["a", "b", "b", "c"])
    assert plain(table(alike)) == plain(table(labels, predictions))


def test_auxiliary_inputs_are_taken(cleanlab: Any, lists: Any) -> None:
    labels, predictions = lists(3)
    for inputs in (
        rank.get_auxiliary_inputs(0.9, labels, predictions),
        cleanlab.rank._get_valid_inputs_for_compute_scores(0.9, labels, predictions),
    ):
        for name in (
            "object_counts_per_image",
            "bounding_box_size_distribution",
            "class_label_distribution",
        ):
            function = getattr(summary, name)
            assert function(auxiliary_inputs=inputs) == function(labels, predictions)


@pytest.mark.parametrize("class_names", [None, NAMES, SAME])
def test_metrics_are_cleanlabs(cleanlab: Any, lists: Any, sources: Any, class_names: Any) -> None:
    labels, predictions = lists(4, 12)
    for name in ("get_average_per_class_confusion_matrix", "calculate_per_class_metrics"):
        expected = getattr(cleanlab.summary, name)(labels, predictions, class_names=class_names)
        forms = [(labels, predictions), *((s, None) for s in sources(labels, predictions).values())]
        for form in forms:
            found = getattr(summary, name)(*form, class_names=class_names)
            if class_names is None:  # cleanlab's default keys are the ids, too
                assert list(found) == [0, 1, 2, 3]
            assert found == {k: pytest.approx(values) for k, values in expected.items()}
    with pytest.raises(InputError, match="class_names has 1 names for 4 classes"):
        summary.calculate_per_class_metrics(labels, predictions, class_names={"0": "only"})


def test_metrics_of_absent_classes_are_zero(cleanlab: Any) -> None:
    """Their code means 0 too, but its 1e-100 is 0 in float32: NaN with NumPy 2."""
    box = np.array([[0.0, 0.0, 9.0, 9.0]])
    labels = [{"bboxes": box, "labels": np.array([1])}]
    predictions = [[np.zeros((0, 5)), np.zeros((0, 5)), np.column_stack([box, [0.9]])]]
    counts = summary.get_average_per_class_confusion_matrix(labels, predictions)
    theirs = cleanlab.summary.get_average_per_class_confusion_matrix(labels, predictions)
    assert counts == {k: pytest.approx(values) for k, values in theirs.items()}
    none = {"average precision": 0.0, "average recall": 0.0, "average f1": 0.0}
    assert summary.calculate_per_class_metrics(labels, predictions) == {0: none, 1: none, 2: none}
    with np.errstate(invalid="ignore"):
        theirs = cleanlab.summary.calculate_per_class_metrics(labels, predictions)
    assert np.isnan(theirs[0]["average recall"])
    assert np.isnan(theirs[1]["average precision"])
    assert np.isnan(theirs[2]["average recall"])


@pytest.mark.parametrize("names", [list("abcd"), dict(enumerate("abcd")), np.array(list("abcd"))])
def test_names_of_classes_as_a_list_or_by_numbers(lists: Any, names: Any) -> None:
    """Sizes were empty, the others failed."""
    labels, predictions = lists(6, 12)
    by_text = {str(k): name for k, name in enumerate("abcd")}
    for function in (
        summary.bounding_box_size_distribution,
        summary.class_label_distribution,
        summary.calculate_per_class_metrics,
    ):
        expected = function(labels, predictions, class_names=by_text)
        assert function(labels, predictions, class_names=names) == expected
        for wrong, message in (
            ({"car": 0}, "class_names must be named by class ids, '0' and so on, got 'car'"),
            ("abcd", "class_names must be a mapping or a list of names, got 'abcd'"),
        ):
            with pytest.raises(InputError, match=message):
                function(labels, predictions, class_names=wrong)


def test_auxiliary_inputs_of_no_images() -> None:
    with pytest.raises(InputError, match="auxiliary_inputs is empty"):
        summary.object_counts_per_image(auxiliary_inputs=[])


@pytest.fixture
def pyplot() -> Iterator[Any]:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def test_plots(pyplot: Any, lists: Any, sources: Any) -> None:
    labels, predictions = lists(5)
    figures = summary.plot_class_size_distributions(labels, predictions, class_to_show=2)
    assert len(figures) == 2
    assert [axis.get_title() for axis in figures[0].axes] == ["given", "predicted"]
    figure = summary.plot_class_distribution(labels, predictions, class_names=NAMES)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert "class 0" in texts
    for source in sources(labels, predictions).values():
        assert len(summary.plot_class_size_distributions(source)) == 4
        summary.plot_class_distribution(source)
        pyplot.close("all")


def test_plots_of_a_class_that_is_never_predicted(pyplot: Any) -> None:
    labels = [{"bboxes": np.array([[0, 0, 9, 9]]), "labels": np.array([0])}]
    assert len(summary.plot_class_size_distributions(labels, [[np.zeros((0, 5))]])) == 1


@pytest.mark.parametrize("overlay", [True, False])
def test_visualize(pyplot: Any, lists: Any, tmp_path: Path, overlay: Any) -> None:
    labels, predictions = lists(1, given=4, predicted=9)
    image = np.zeros((600, 700, 3))
    path = str(tmp_path / "figure.png")
    figure = summary.visualize(
        image,
        label=labels[0],
        prediction=predictions[0],
        prediction_threshold=0.9,
        overlay=overlay,
        class_names=NAMES,
        save_path=path,
    )
    kept = sum((rows[:, 4] > 0.9).sum() for rows in predictions[0])
    assert sum(len(axis.patches) for axis in figure.axes) == len(labels[0]["labels"]) + kept
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert legend == ["given", "predicted", *NAMES.values()]
    again = summary.visualize(path, label=labels[0])  # the saved figure as an image
    assert again.axes[0].get_legend() is not None
    assert summary.visualize(image).axes[0].get_legend() is None


def test_visualize_predictions_with_all_probabilities(pyplot: Any) -> None:
    boxes = np.array([[0, 0, 9, 9], [20, 20, 30, 30]])
    probs = np.array([[0.9, 0.1], [0.1, 0.4]])
    prediction = [boxes, np.array([0, 1]), probs]
    figure = summary.visualize(np.zeros((40, 40)), prediction=prediction, prediction_threshold=0.5)
    assert len(figure.axes[0].patches) == 1


def test_missing_matplotlib_prints_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, lists: Any
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "dask-labelqc\[plot\]"'):
        summary.plot_class_distribution(*lists(0))
