"""What a type checker says of the public functions: NumPy in, NumPy out; read, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import dask.array as da
import pandas as pd
import xarray as xr
import zarr
from matplotlib.figure import Figure

import dask_labelqc.experimental.label_issues_batched
from dask_labelqc import classification, object_detection, segmentation
from dask_labelqc.object_detection import rank, summary
from dask_labelqc.object_detection.answers import ClassName
from dask_labelqc.typing import AnyArray, BoolArray, Floats, Ints


def masks(plain: AnyArray, stored: zarr.Array[Any], lazy: da.Array, named: xr.DataArray) -> None:
    find = segmentation.find_label_issues
    assert_type(find(plain, plain), BoolArray)
    assert_type(find([[[0]]], plain, downsample=2, ignore_index=[255]), BoolArray)
    assert_type(find([plain], [plain]), BoolArray | list[BoolArray])
    assert_type(find(stored, stored), da.Array)
    assert_type(find(lazy, lazy), da.Array)
    assert_type(find(stored, plain), da.Array)
    assert_type(find(plain, stored), da.Array)
    assert_type(find(plain, lazy), da.Array)
    assert_type(find(named, named), xr.DataArray)
    assert_type(find(named, stored), xr.DataArray)
    assert_type(find(plain, named), BoolArray | da.Array)
    find(plain, plain, downsmaple=2)  # type: ignore[call-overload]
    find(plain, plain, validate="some")  # type: ignore[call-overload]
    find("labels.zarr", plain)  # type: ignore[call-overload]


def scores(plain: AnyArray, stored: zarr.Array[Any], lazy: da.Array, named: xr.DataArray) -> None:
    score = segmentation.get_label_quality_scores
    assert_type(score(plain, plain, method="num_pixel_issues"), tuple[Floats, Floats])
    assert_type(score([plain], [plain]), tuple[Floats, Floats | list[Floats]])
    assert_type(score(stored, stored), tuple[da.Array, da.Array])
    assert_type(score(plain, lazy), tuple[da.Array, da.Array])
    assert_type(score(named, plain), tuple[xr.DataArray, xr.DataArray])
    below = segmentation.issues_from_scores
    assert_type(below(plain), Ints)
    assert_type(below(lazy, threshold=0.2), Ints)
    assert_type(below(plain, plain), BoolArray)
    assert_type(below(plain, stored), da.Array)
    assert_type(below(lazy, lazy), da.Array)
    assert_type(below(named, named), xr.DataArray)
    image_scores, pixel_scores = score(plain, plain)
    assert_type(below(image_scores, pixel_scores), BoolArray)


def summaries(
    plain: AnyArray, stored: zarr.Array[Any], lazy: da.Array, named: xr.DataArray
) -> None:
    of_class = segmentation.filter_by_class
    assert_type(of_class(1, plain, plain, plain), BoolArray)
    assert_type(of_class([1, 2], lazy, stored, stored), da.Array)
    assert_type(of_class(1, stored, plain, plain), da.Array)
    assert_type(of_class(1, named, stored, stored), xr.DataArray)
    assert_type(of_class(1, plain, stored, stored), BoolArray | da.Array)
    assert_type(segmentation.common_label_issues(plain, plain, plain), pd.DataFrame)
    assert_type(segmentation.common_label_issues(Path("audit.zarr")), pd.DataFrame)
    assert_type(segmentation.display_issues(lazy, labels=stored), list[Figure])
    assert_type(segmentation.audit(named, stored), xr.Dataset)


def examples(plain: AnyArray, lazy: da.Array, named: xr.DataArray, maybe: bool) -> None:
    find = classification.find_label_issues_batched
    assert_type(find(plain, plain), Ints)
    assert_type(find(named, lazy, n_jobs=None), Ints)
    assert_type(find(labels_file="labels.npy", pred_probs_file=Path("probs.npy")), Ints)
    assert_type(find(plain, lazy, return_mask=True), BoolArray)
    assert_type(find(named, lazy, return_mask=True), xr.DataArray)
    assert_type(
        find(labels_file="labels.npy", pred_probs=lazy, return_mask=True, verbose=False), BoolArray
    )
    assert_type(find(named, lazy, return_mask=maybe), Ints | BoolArray | xr.DataArray)
    inspector = classification.LabelInspector(num_class=2)
    assert_type(inspector.score_label_quality(plain, plain), Floats)
    assert_type(inspector.get_label_issues(), Ints)
    assert_type(inspector + inspector, classification.LabelInspector)
    assert_type(dask_labelqc.experimental.label_issues_batched.find_label_issues_batched(), Ints)


def boxes(
    labels: list[dict[str, Floats]],
    predictions: list[list[Floats]],
    columns: xr.Dataset,
    lazy: da.Array,
    named: xr.DataArray,
    plain: AnyArray,
) -> None:
    assert_type(rank.get_label_quality_scores(labels, predictions), Floats)
    assert_type(rank.get_label_quality_scores(columns), xr.DataArray)
    assert_type(rank.get_label_quality_scores("boxes.zarr", verbose=False), xr.DataArray)
    find = object_detection.filter.find_label_issues
    assert_type(find(labels, predictions), BoolArray)
    assert_type(find(labels, predictions, return_indices_ranked_by_score=True), Ints)
    assert_type(find(columns), xr.DataArray)
    assert_type(find(columns, return_indices_ranked_by_score=True), Ints | da.Array)
    assert_type(rank.issues_from_scores(plain), Ints)
    assert_type(rank.issues_from_scores(lazy), da.Array)
    assert_type(rank.issues_from_scores(named, threshold=0.2), Ints | da.Array)
    swapped = rank.compute_swap_box_scores
    assert_type(swapped(labels=labels, predictions=predictions), list[Floats])
    assert_type(swapped(labels=columns, alpha=0.5), xr.DataArray)
    parts = rank.get_auxiliary_inputs(0.9, labels, predictions)
    assert_type(swapped(auxiliary_inputs=parts), list[Floats])
    assert_type(rank.compute_badloc_box_scores(labels=columns), xr.DataArray)
    assert_type(rank.compute_overlooked_box_scores(auxiliary_inputs=parts), list[Floats])
    assert_type(rank.compute_spurious_box_scores(labels="boxes.zarr"), xr.DataArray)
    assert_type(rank.pool_box_scores_per_image([plain, plain]), Floats)
    assert_type(rank.pool_box_scores_per_image(lazy, offsets=plain), da.Array)
    assert_type(rank.pool_box_scores_per_image(named, offsets=plain), xr.DataArray)
    assert_type(object_detection.audit(columns), xr.Dataset)


def counts_of_boxes(
    labels: list[dict[str, Floats]], predictions: list[list[Floats]], columns: xr.Dataset
) -> None:
    sizes = summary.bounding_box_size_distribution
    given, _ = sizes(labels, predictions, class_names=["car", "bus"])
    assert_type(given, dict[ClassName, list[float]])
    _, predicted = sizes(columns, class_names={"0": "car"})
    assert_type(predicted, dict[ClassName, Floats])
    metrics = summary.calculate_per_class_metrics(labels, predictions, class_names={0: "car"})
    assert_type(metrics, dict[ClassName, dict[str, float]])
    assert_type(summary.class_label_distribution(columns)[0], dict[ClassName, float])
    assert_type(summary.plot_class_distribution(columns), Figure)
    assert_type(summary.visualize("image.png", label=labels[0]), Figure)


def jobs() -> None:
    plan = dask_labelqc.plan_audit("labels.zarr", "pred_probs.zarr")
    assert_type(plan, dask_labelqc.JobPlan | dask_labelqc.RaggedPlan)
    report = dask_labelqc.audit_zarr("labels.zarr", "pred_probs.zarr", "audit.zarr")
    assert_type(report, dask_labelqc.JobReport)
    assert_type(dask_labelqc.__version__, str)
    dask_labelqc.audit_zar()  # type: ignore[attr-defined]
