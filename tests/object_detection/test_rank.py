from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.errors import InputError
from dask_labelqc.object_detection import audit, from_lists, rank, summary
from tests.strategies import examples

SCORES = {
    "compute_overlooked_box_scores": [{}, {"alpha": 0.4}, {"high_probability_threshold": 0.7}],
    "compute_badloc_box_scores": [{}, {"alpha": 0.4}, {"low_probability_threshold": 0.9}],
    "compute_swap_box_scores": [
        {},
        {"alpha": 0.4, "high_probability_threshold": 0.7},
        {"overlapping_label_check": False},
    ],
}
CASES = [(name, options) for name, every in SCORES.items() for options in every]
BOX = [0.0, 0.0, 9.0, 9.0]


def assert_lists_agree(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 1), (12, 2), (8, 40)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"overlapping_label_check": False},
        {"aggregation_weights": {"overlooked": 0.7, "badloc": 0.3, "swap": 0.0}},
    ],
)
def test_quality_scores_are_cleanlabs(
    cleanlab: Any, lists: Any, dtype: Any, num_images: int, num_classes: int, options: Any
) -> None:
    labels, predictions = lists(3, num_images, num_classes, dtype=dtype)
    expected = cleanlab.rank.get_label_quality_scores(labels, predictions, verbose=False, **options)
    found = rank.get_label_quality_scores(labels, predictions, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    if dtype == np.float64:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_half_precision_predictions(cleanlab: Any, lists: Any) -> None:
    labels, predictions = lists(9)
    predictions = [[rows.astype(np.float16) for rows in prediction] for prediction in predictions]
    expected = cleanlab.rank.get_label_quality_scores(labels, predictions, verbose=False)
    found = rank.get_label_quality_scores(labels, predictions)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "options"), CASES)
def test_box_scores_are_cleanlabs(
    cleanlab: Any, lists: Any, seed: int, name: str, options: Any
) -> None:
    labels, predictions = lists(seed)
    expected = getattr(cleanlab.rank, name)(labels=labels, predictions=predictions, **options)
    found = getattr(rank, name)(labels=labels, predictions=predictions, **options)
    assert_lists_agree(found, expected)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_auxiliary_inputs_of_either_package_serve(
    cleanlab: Any, lists: Any, name: str, options: Any
) -> None:
    labels, predictions = lists(5)
    theirs = cleanlab.rank._get_valid_inputs_for_compute_scores(0.6, labels, predictions)
    ours = rank.get_auxiliary_inputs(0.6, labels, predictions)
    expected = getattr(cleanlab.rank, name)(auxiliary_inputs=theirs, **options)
    assert_lists_agree(getattr(rank, name)(auxiliary_inputs=theirs, **options), expected)
    assert_lists_agree(getattr(rank, name)(auxiliary_inputs=ours, **options), expected)
    assert set(theirs[0]) == set(ours[0])


def test_auxiliary_inputs_without_matrices(cleanlab: Any, lists: Any) -> None:
    """Matrices and the smallest similarity are then those of the image."""
    labels, predictions = lists(7, given=4)
    parts = [
        {"label": label, "prediction": prediction}
        for label, prediction in zip(labels, predictions, strict=True)
        if len(label["labels"]) and sum(map(len, prediction))
    ]
    for name in ("compute_overlooked_box_scores", "compute_badloc_box_scores"):
        expected = getattr(cleanlab.rank, name)(auxiliary_inputs=parts)
        assert_lists_agree(getattr(rank, name)(auxiliary_inputs=parts), expected)
    with pytest.raises(InputError, match=r"auxiliary_inputs\[0\] has .*it needs 'lab_labels'"):
        rank.compute_swap_box_scores(auxiliary_inputs=[{"prediction": predictions[0]}])
    with pytest.raises(InputError, match=r"auxiliary_inputs\[0\] has .*it needs \['pred_bboxes'"):
        rank.compute_swap_box_scores(auxiliary_inputs=[{"label": labels[0]}])


def test_spurious_scores(lists: Any) -> None:
    labels = [{"bboxes": np.array([BOX, [50, 50, 60, 60]]), "labels": np.array([0, 0])}]
    predictions = [[np.zeros((0, 5)), np.array([[*BOX, 0.8]])]]
    supported, alone = rank.compute_spurious_box_scores(labels=labels, predictions=predictions)[0]
    assert supported == pytest.approx(0.8)
    auxiliary = rank.get_auxiliary_inputs(0.9, labels, predictions)
    assert alone == 0
    again = rank.compute_spurious_box_scores(auxiliary_inputs=auxiliary)[0]
    np.testing.assert_array_equal(again, [supported, alone])
    weights = {"overlooked": 0.0, "badloc": 0.0, "swap": 0.0, "spurious": 1.0}
    score = rank.get_label_quality_scores(labels, predictions, aggregation_weights=weights)
    np.testing.assert_allclose(score, rank.pool_box_scores_per_image([[supported, alone]]))


def test_spurious_scores_do_not_depend_on_the_other_images() -> None:
    """The only image of a dataset: its smallest similarity is 1, there is no other."""
    lone = [{"bboxes": np.array([BOX]), "labels": np.array([0])}]
    nothing, far = [np.zeros((0, 5))], [np.array([[900.0, 900.0, 950.0, 950.0, 0.99]])]
    for prediction in (nothing, far):
        (score,) = rank.compute_spurious_box_scores(labels=lone, predictions=[prediction])
        assert score.tolist() == [0]
        weights = {"overlooked": 0.0, "badloc": 0.0, "swap": 0.0, "spurious": 1.0}
        assert rank.get_label_quality_scores(
            lone, [prediction], aggregation_weights=weights
        ) == pytest.approx([0])


@pytest.mark.parametrize("second_class", [0, 1])
def test_of_an_object_that_is_annotated_twice_one_box_is_supported(
    sources: Any, second_class: Any
) -> None:
    """A tie goes to the box of the predicted class, wherever it stands; then to the first."""
    labels = [{"bboxes": np.array([BOX, BOX]), "labels": np.array([1, second_class])}]
    prediction = [np.array([[*BOX, 0.9]]), np.zeros((0, 5))]
    weak = [np.array([[*BOX, 0.9]]), np.array([[0.0, 0.0, 9.0, 6.0, 0.2]])]
    order = slice(None, None, -1 if second_class == 0 else 1)
    for one, expected in ((prediction, [0.9, 0]), (weak, [0.9, 0.2])):
        forms = [{"labels": labels, "predictions": [one]}]
        forms += [{"labels": source} for source in sources(labels, [one]).values()]
        for form in forms:
            found = np.ravel(rank.compute_spurious_box_scores(**form))
            assert found[order] == pytest.approx(expected, abs=0.1)
            assert found[order][1] < expected[1] + 1e-9


@pytest.mark.parametrize("temperature", [None, 1e-9, 0.01, 1.0, 50.0])
def test_pooling_is_cleanlabs(cleanlab: Any, temperature: Any) -> None:
    scores = [np.array([0.1, np.nan, 0.7]), np.array([np.nan]), np.array([]), np.array([0.3])]
    expected = cleanlab.rank.pool_box_scores_per_image(scores, temperature=temperature)
    found = rank.pool_box_scores_per_image(scores, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    flat = np.concatenate(scores)
    offsets = [0, 3, 4, 4, 5]
    for form in (flat, da.from_array(flat, chunks=2), xr.DataArray(flat)):
        pooled = rank.pool_box_scores_per_image(form, temperature=temperature, offsets=offsets)
        np.testing.assert_array_equal(np.asarray(pooled), found)


@pytest.mark.parametrize(
    ("scores", "offsets", "message"),
    [
        ([0.1, 0.2], [0, 5], "offsets runs from 0 to 5; .* number of boxes, 2"),
        ([0.1, 0.2], [0, 2, 1, 2], "offsets falls from 2 to 1 at image 1"),
        ([[0.1], [0.2]], [0, 2], r"box_scores has shape \(2, 1\); with offsets it must be"),
        ([0.1, 0.2], None, "box_scores must be one array of scores for each image"),
    ],
)
def test_scores_to_pool_must_fit(scores: Any, offsets: Any, message: str) -> None:
    """Memory behind the scores was read, and averaged."""
    forms = [np.array(scores)]
    if offsets is not None:
        forms.append(da.from_array(np.array(scores)))
    for form in forms:
        with pytest.raises(InputError, match=message):
            rank.pool_box_scores_per_image(form, offsets=offsets)


def test_issues_need_one_score_an_image() -> None:
    with pytest.raises(InputError, match=r"must be one score an image, got \(2, 1\)"):
        rank.issues_from_scores(np.array([[0.1], [0.2]]))


def test_issues_from_scores_is_cleanlabs(cleanlab: Any) -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0, 1, 101))
    for threshold in (0.0, 0.1, 0.5, 1.0):
        expected = cleanlab.rank.issues_from_scores(scores, threshold=threshold)
        found = rank.issues_from_scores(scores, threshold=threshold)
        np.testing.assert_array_equal(found, expected)
        lazy = rank.issues_from_scores(da.from_array(scores, chunks=10), threshold=threshold)
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(lazy.compute(), expected)
    assert rank.issues_from_scores(np.array([0.5, 0.0, 0.5, 0.5]), threshold=0.5).tolist() == [
        1, 0, 2, 3,
    ]  # fmt: skip


def test_a_threshold_may_be_a_quantile() -> None:
    scores = xr.DataArray([0.1, 0.2, 0.3], dims="image")
    assert rank.issues_from_scores(scores, threshold=scores.quantile(0.5)).tolist() == [0, 1]


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, "0.5", None])
def test_thresholds_outside_zero_and_one_are_refused(lists: Any, value: Any) -> None:
    labels, predictions = lists(0, 2)
    message = rf"threshold: got {value!r}, it must be between 0 and 1"
    with pytest.raises(InputError, match=f"^{message}"):
        rank.issues_from_scores(np.array([0.5]), threshold=value)
    if value is None:  # the default of the others
        return
    for function in (rank.compute_overlooked_box_scores, rank.compute_swap_box_scores):
        with pytest.raises(InputError, match=f"high_probability_{message}"):
            function(labels=labels, predictions=predictions, high_probability_threshold=value)
    with pytest.raises(InputError, match=f"low_probability_{message}"):
        rank.compute_badloc_box_scores(
            labels=labels, predictions=predictions, low_probability_threshold=value
        )
    for name in ("low_probability_threshold", "high_probability_threshold"):
        with pytest.raises(InputError, match=f"{name}: got {value!r}, it must be"):
            audit(labels, predictions, **{name: value})
    with pytest.raises(InputError, match=f"prediction_{message}"):
        summary.visualize(np.zeros((9, 9)), prediction_threshold=value)
    with pytest.raises(InputError, match=f"alpha: got {value!r}, it must be between"):
        rank.get_auxiliary_inputs(value, labels, predictions)
    with pytest.raises(InputError, match=f"alpha: got {value!r}, it must be between 0"):
        rank.compute_spurious_box_scores(labels=labels, predictions=predictions, alpha=value)


@pytest.mark.parametrize("block_boxes", [1, 23, 10**6])
def test_columnar_is_lists_in_any_blocks(lists: Any, sources: Any, block_boxes: Any) -> None:
    labels, predictions = lists(11)
    expected = rank.get_label_quality_scores(labels, predictions)
    overlooked = rank.compute_overlooked_box_scores(labels=labels, predictions=predictions)
    badloc = rank.compute_badloc_box_scores(labels=labels, predictions=predictions)
    for form, source in sources(labels, predictions).items():
        scores = rank.get_label_quality_scores(source, block_boxes=block_boxes)
        assert isinstance(scores, xr.DataArray)
        assert dask.is_dask_collection(scores) == (form != "numpy")
        np.testing.assert_array_equal(scores.values, expected)
        of_predicted = rank.compute_overlooked_box_scores(labels=source, block_boxes=block_boxes)
        np.testing.assert_array_equal(of_predicted.values, np.concatenate(overlooked))
        of_given = rank.compute_badloc_box_scores(labels=source, block_boxes=block_boxes)
        np.testing.assert_array_equal(of_given.values, np.concatenate(badloc))


@given(seed=st.integers(0, 2**32 - 1), block_boxes=st.integers(1, 200), chunk=st.integers(1, 50))
@examples(8)
def test_any_chunks_and_blocks_give_the_same(
    lists: Any, seed: int, block_boxes: Any, chunk: Any
) -> None:
    labels, predictions = lists(seed, 6)
    expected = rank.get_label_quality_scores(labels, predictions)
    dataset = from_lists(labels, predictions)
    for form in (dataset, dataset.chunk(given_box=chunk, predicted_box=2 * chunk)):
        found = rank.get_label_quality_scores(form, block_boxes=block_boxes)
        np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize("seed", range(4))
def test_quantised_boxes_and_probabilities(cleanlab: Any, lists: Any, seed: int) -> None:
    """Many boxes then touch, coincide or are exactly as probable as a threshold."""
    labels, predictions = lists(seed, 20, 3)
    for label, prediction in zip(labels, predictions, strict=True):
        label["bboxes"] = np.round(label["bboxes"], -1).astype(np.int64)
        for rows in prediction:
            rows[:, :4] = np.round(rows[:, :4], -1)
            rows[:, 4] = np.round(rows[:, 4] * 20) / 20
    expected = cleanlab.rank.get_label_quality_scores(labels, predictions, verbose=False)
    found = rank.get_label_quality_scores(labels, predictions)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_images_without_boxes(cleanlab: Any) -> None:
    none, one = np.zeros((0, 5)), np.array([[*BOX, 0.97]])
    given = {"bboxes": np.array([BOX]), "labels": np.array([0])}
    empty = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    labels = [given, given, empty, empty]
    predictions = [[one, none], [none, none], [none, one], [none, none]]
    expected = cleanlab.rank.get_label_quality_scores(labels, predictions, verbose=False)
    found = rank.get_label_quality_scores(labels, predictions)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    bare = {"bboxes": np.array([]), "labels": np.array([])}
    same = rank.get_label_quality_scores([given, given, bare, bare], predictions)
    np.testing.assert_array_equal(same, found)
    flat = [[one, []], [[], []], [[], one], [np.array([]), []]]
    np.testing.assert_array_equal(rank.get_label_quality_scores(labels, flat), found)
    for i in range(4):  # one image alone, also one without any box
        alone = rank.get_label_quality_scores(labels[i : i + 1], predictions[i : i + 1])
        theirs = cleanlab.rank.get_label_quality_scores(
            labels[i : i + 1], predictions[i : i + 1], verbose=False
        )
        np.testing.assert_allclose(alone, theirs, rtol=1e-12)


def test_coordinates_are_carried_over(lists: Any) -> None:
    labels, predictions = lists(0, 3)
    for i, label in enumerate(labels):
        label["image_name"] = f"street {i}"
    scores = rank.get_label_quality_scores(from_lists(labels, predictions))
    assert scores["image_name"].values.tolist() == ["street 0", "street 1", "street 2"]


def test_building_computes_nothing_but_offsets(lists: Any, sources: Any) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed")

    every = sources(*lists(0))
    with dask.config.set(scheduler=refuse):
        for form in ("path", "group"):
            rank.get_label_quality_scores(every[form])


def test_tasks_a_block_do_not_grow_with_the_blocks(lists: Any) -> None:
    labels, predictions = lists(0, 60)
    dataset = from_lists(labels, predictions).chunk(given_box=20, predicted_box=50)
    tasks = {}
    for block_boxes in (100, 50):
        scores = rank.get_label_quality_scores(dataset, block_boxes=block_boxes)
        tasks[scores.data.numblocks[0]] = len(dict(scores.__dask_graph__()))
    (few, at_few), (many, at_many) = sorted(tasks.items())
    assert at_many / many <= at_few / few
    assert at_many / many < 60


def broken(image: Any, **change: Any) -> Any:
    labels = [{"bboxes": np.array([BOX]), "labels": np.array([0])} for _ in range(4)]
    predictions = [[np.array([[*BOX, 0.9]])] for _ in range(4)]
    if "prediction" in change:
        predictions[image] = change["prediction"]
    else:
        labels[image] = labels[image] | change if "label" not in change else change["label"]
    return labels, predictions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([3])}, r"image 2, given box 0: classes is 3; .* 0\.\.0"),
        ({"labels": np.array([-1])}, "image 2, given box 0: classes is -1"),
        ({"labels": np.array([0.5])}, r"labels\[2\]: 'labels' must be whole numbers, got \[0.5\]"),
        ({"labels": np.array([0, 0])}, r"labels\[2\]: 'bboxes' has shape \(1, 4\), for 2 'labels'"),
        ({"bboxes": np.array([[9, 0, 0, 9]])}, r"image 2, given box 0: boxes is \[9.0, 0.0, 0.0, "),
        ({"bboxes": np.array([[0, 0, np.nan, 9]])}, "image 2, given box 0: boxes is .*nan"),
        ({"label": [BOX]}, r"labels\[2\] must be a dictionary .* got list"),
        ({"label": {"bboxes": []}}, r"labels\[2\] must be a dictionary .* got \['bboxes'\]"),
        ({"prediction": [np.array([[*BOX, 1.5]])]}, "image 2, predicted box 0: scores is 1.5"),
        ({"prediction": [np.array([[0, 0, -1, 1, 0.5]])]}, "image 2, predicted box 0: boxes"),
        ({"prediction": [np.zeros((1, 4))]}, r"predictions\[2\]\[0\] has shape \(1, 4\)"),
        ({"bboxes": [["a", 0, 9, 9]]}, r"labels\[2\]: 'bboxes' must be numbers, got dtype <U"),
        ({"bboxes": [[1, 2], [3]]}, r"labels\[2\]: 'bboxes' is no array: .*inhomogeneous"),
        ({"bboxes": np.ma.array([BOX], mask=True)}, r"labels\[2\]: 'bboxes' has masked values"),
        ({"labels": ["car"]}, r"labels\[2\]: 'labels' must be whole numbers, got \['car'\]"),
        ({"prediction": None}, r"predictions\[2\] must be a list, got NoneType"),
        ({"prediction": [0.5]}, r"predictions\[2\]\[0\] has shape \(\)"),
        ({"prediction": [[["a"] * 5]]}, r"predictions\[2\]\[0\] must be numbers, got dtype <U"),
        (
            {"prediction": [np.ma.array([[*BOX, 0.9]], mask=True)]},
            r"predictions\[2\]\[0\] has masked values; leave out the boxes that do not count",
        ),
        ({"prediction": []}, r"predictions\[2\] has 0 classes, predictions\[0\] has 1"),
    ],
)
def test_bad_boxes_are_named(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank.get_label_quality_scores(*broken(2, **change))


def test_bad_boxes_are_named_in_any_block(lists: Any, sources: Any) -> None:
    labels, predictions = lists(1, 9, given=3)
    labels[6] = {"bboxes": np.array([BOX, BOX]), "labels": np.array([0, 77])}
    for source in sources(labels, predictions).values():
        with pytest.raises(InputError, match="image 6, given box 1: classes is 77"):
            np.asarray(rank.get_label_quality_scores(source, block_boxes=8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation_weights": {"overlooked": 1.0}}, r"missing \['badloc', 'swap'\]"),
        (
            {"aggregation_weights": {"overlooked": 1, "badloc": 0, "swap": 0, "typo": 0}},
            r"unknown \['typo'\]",
        ),
        (
            {"aggregation_weights": {"overlooked": 2, "badloc": -1, "swap": 0}},
            r"got \{.*\}, they must not be negative and must sum to 1",
        ),
        (
            {"aggregation_weights": {"overlooked": 1, "badloc": "0", "swap": 0}},
            r"got \{.*\}, they must not be negative and must sum to 1",
        ),
        ({"aggregation_weights": [1, 0, 0]}, r"got \[1, 0, 0\], it must be a mapping"),
        ({"block_boxes": 0}, "block_boxes: got 0, it must be an integer of 1"),
        ({"block_boxes": 1.5}, "block_boxes: got 1.5, it must be an integer of 1"),
    ],
)
def test_bad_options(lists: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank.get_label_quality_scores(*lists(0), **options)


def test_bad_arguments(lists: Any) -> None:
    labels, predictions = lists(0, 3)
    with pytest.raises(InputError, match=r"len\(labels\) is 2, len\(predictions\) is 3"):
        rank.get_label_quality_scores(labels[:2], predictions)
    with pytest.raises(InputError, match="predictions is empty"):
        rank.get_label_quality_scores([], [])
    with pytest.raises(InputError, match=r"predictions\[0\] has no classes"):
        rank.get_label_quality_scores(labels[:1], [[]])
    with pytest.raises(InputError, match="labels must be a list, got int"):
        rank.get_label_quality_scores(5, predictions)
    with pytest.raises(InputError, match="predictions must be a list, got str"):
        rank.get_label_quality_scores(labels, "predictions")
    with pytest.raises(InputError, match="labels and predictions are needed"):
        rank.compute_swap_box_scores(labels=labels)
    with pytest.raises(InputError, match="predictions must be None"):
        rank.get_label_quality_scores(from_lists(labels, predictions), predictions)
    with pytest.raises(InputError, match=r"alpha: got 1.5, it must be between 0 and 1"):
        rank.compute_swap_box_scores(labels=labels, predictions=predictions, alpha=1.5)
    with pytest.raises(InputError, match="temperature: got 0, it must be a number above 0"):
        rank.pool_box_scores_per_image([np.array([0.5])], temperature=0)
