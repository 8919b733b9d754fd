"""The commands for examples and boxes, and which of them an array or a file is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import zarr
from click.testing import CliRunner, Result

from dask_labelqc.classification import find_label_issues_batched
from dask_labelqc.cli import labelqc
from dask_labelqc.object_detection import audit, from_coco, from_yolo
from tests.classification.examples import draw_examples
from tests.pipeline.datasets import WHOLE, files
from tests.pipeline.others import check_boxes, make, make_boxes
from tests.strategies import make_case

QUIET = ("--workers=0", "--quiet")


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(labelqc, [str(a) for a in arguments])


def shown(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_examples_are_known_by_their_dimensions(tmp_path: Path) -> None:
    dataset, output = make("examples", tmp_path / "in", method="normalized_margin"), tmp_path / "o"
    options = ("--method=normalized_margin", "--write-label-quality", "--write-predicted-label")
    result = invoke("audit", *dataset.places, output, *QUIET, *options)
    assert "examples 600 label issues" in shown(result)
    found = dataset.check(output)
    assert "label_quality" in found
    before = files(output)
    assert invoke("audit", *dataset.places, output, *QUIET, *options, "--resume").exit_code == 0
    assert files(output) == before
    refused = invoke("audit", *dataset.places, output, *QUIET, *options)
    assert "exists already (complete); --resume finishes it" in refused.stderr


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("examples", "--downsample=2", "--downsample: for images only, and by their dimensions "),
        ("images", "--method=normalized_margin", "--method: for examples only, and by their "),
    ],
)
def test_options_of_the_other_kind(kind: str, option: str, message: str, tmp_path: Path) -> None:
    places = make("examples", tmp_path / "in").places
    if kind == "images":
        case = make_case(100, (2, 4, 4), 3)
        group = zarr.open_group(tmp_path / "in", mode="w")
        for name, values in (("labels", case.labels), ("pred_probs", case.pred_probs)):
            group.create_array(name, data=values, config=WHOLE)
    result = invoke("audit", *places, tmp_path / "out", *QUIET, option)
    assert (result.exit_code, result.stderr.startswith(f"Error: {message}")) == (1, True)


def test_a_scene_of_one_dimension_is_no_list_of_examples(tmp_path: Path) -> None:
    case = make_case(100, (1, 12), 3)
    group = zarr.open_group(tmp_path / "in", mode="w")
    group.create_array("labels", data=case.labels[0], dimension_names=("x",), config=WHOLE)
    group.create_array("pred_probs", data=case.pred_probs[0], dimension_names=("class", "x"))
    result = invoke("info", tmp_path / "in")
    assert "images 1 of 12 pixels" in shown(result)
    result = invoke("audit", tmp_path / "in/labels", tmp_path / "in/pred_probs", tmp_path / "o",
                    *QUIET)  # fmt: skip
    assert "pixels 12" in shown(result)


@pytest.mark.parametrize("names", [("y", "class"), None])
def test_examples_along_a_dimension_that_is_called_as_a_place_is(
    names: Any, tmp_path: Path
) -> None:
    labels, pred_probs = draw_examples(0, 60, 4)
    group = zarr.open_group(tmp_path / "in", mode="w")
    group.create_array("labels", data=labels, dimension_names=("y",), config=WHOLE)
    group.create_array("pred_probs", data=pred_probs, dimension_names=names, config=WHOLE)
    places = tmp_path / "in/labels", tmp_path / "in/pred_probs", tmp_path / "out"
    assert "examples 60" in shown(invoke("audit", *places, *QUIET))
    found = find_label_issues_batched(labels, pred_probs, verbose=False)
    assert xr.open_zarr(tmp_path / "out").issue_index.values.tolist() == found.tolist()


def test_info_of_each(tmp_path: Path) -> None:
    make("examples", tmp_path / "examples")
    told = shown(invoke("info", tmp_path / "examples"))
    assert told.startswith("examples 600 classes 4 pred_probs float32, chunks of 50 examples")
    assert "groups 1 of 600 examples" in told
    make("boxes", tmp_path / "boxes")
    told = shown(invoke("info", tmp_path / "boxes"))
    assert told.startswith("images 60 boxes ")
    assert "classes 3: car, bus, tram groups 1 bytes to read" in told


def test_boxes(tmp_path: Path) -> None:
    dataset, output = make("boxes", tmp_path / "in"), tmp_path / "out"
    told = shown(invoke("audit-boxes", *dataset.places, output, *QUIET))
    assert told.startswith("images 60 boxes ")
    dataset.check(output)
    weights = {"overlooked": 0.2, "badloc": 0.3, "swap": 0.4, "spurious": 0.1}
    options = [f"--aggregation-weight={kind}={weight}" for kind, weight in weights.items()]
    more = ("--alpha=0.5", "--no-overlapping-label-check")
    shown(invoke("audit-boxes", *dataset.places, tmp_path / "other", *QUIET, *options, *more))
    expected = audit(
        make_boxes(0), aggregation_weights=weights, alpha=0.5, overlapping_label_check=False
    )
    check_boxes(xr.open_zarr(tmp_path / "other").load(), expected)


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    categories = [{"id": 3, "name": "car"}, {"id": 7, "name": "bus"}]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)]
    given = [
        {"id": i, "image_id": i, "category_id": 3, "bbox": [5 * i, 0, 20, 30]} for i in range(4)
    ]
    found = [
        {"image_id": i, "category_id": 3 + 4 * (i == 2), "bbox": [5 * i, 1, 20, 28], "score": 0.97}
        for i in range(3)
    ]
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": given}))
    results.write_text(json.dumps(found))
    return truth, results


def test_boxes_of_coco_files(coco: tuple[Path, Path], tmp_path: Path) -> None:
    """They are stored beside the output, once; what is made of other files replaces them."""
    output, boxes = tmp_path / "audit.zarr", tmp_path / "audit-boxes.zarr"
    command = ("audit-boxes", "--coco", *coco, output, *QUIET)
    assert "images 4 boxes 4 given, 3 predicted" in shown(invoke(*command))
    check_boxes(xr.open_zarr(output).load(), audit(from_coco(*coco)))
    before = files(boxes), files(output)
    assert "groups 1, 1 of them by an earlier run" in shown(invoke(*command, "--resume"))
    assert (files(boxes), files(output)) == before
    coco[1].write_text("[]")
    refused = invoke(*command, "--resume")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert (
        "made of other files, or these have changed since; --overwrite replaces" in refused.stderr
    )
    assert "4 given, 0 predicted" in shown(invoke(*command, "--overwrite"))


def test_boxes_of_yolo_folders(tmp_path: Path) -> None:
    for folder, line in (("labels", "1 0.5 0.5 0.2 0.4"), ("found", "1 0.5 0.4 0.2 0.4 0.9")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "street.txt").write_text(line)
    folders = tmp_path / "labels", tmp_path / "found"
    places = (tmp_path / "boxes", tmp_path / "out")
    command = ("audit-boxes", *places, "--yolo", *folders, *QUIET)
    names = ("--class-name=car", "--class-name=bus")
    shown(invoke(*command, "--image-sizes=100x50", *names))
    expected = audit(from_yolo(*folders, (100, 50), class_names=["car", "bus"]))
    check_boxes(xr.open_zarr(places[1]).load(), expected)
    assert xr.open_zarr(places[0]).attrs["status"] == "complete"
    missing = invoke(*command)
    assert (missing.exit_code, "--yolo needs --image-sizes" in missing.stderr) == (2, True)
    for size, said in (("0x9", "got (0, 9), it"), ("nowhere", "got 'nowhere', neither a size")):
        refused = invoke(*command, "--overwrite", f"--image-sizes={size}")
        assert refused.stderr.startswith(f"Error: --image-sizes: {said}")


def test_what_is_no_output_of_ours_stays(coco: tuple[Path, Path], tmp_path: Path) -> None:
    mine = tmp_path / "boxes/notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    command = ("audit-boxes", mine.parent, tmp_path / "out", "--coco", *coco, "--overwrite")
    result = invoke(*command, *QUIET)
    assert "exists and was not made of files by this command" in result.stderr
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--coco a b --yolo c d out", "--coco and --yolo name two datasets; give one of them."),
        ("--coco a out", "Missing argument 'OUTPUT': a out are the two of --coco."),
        ("--yolo a out", "Missing argument 'OUTPUT': a out are the two of --yolo."),
        ("--coco a", "Option '--coco' requires 2 arguments."),
        ("--coco a b c d e", "Got 3 places, c d e; two at the most."),
    ],
)
def test_files_that_are_not_clear(arguments: str, message: str) -> None:
    result = invoke("audit-boxes", *arguments.split())
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: {message}")


def test_options_that_boxes_have_no_use_for(coco: tuple[Path, Path], tmp_path: Path) -> None:
    sizes = ("--image-sizes=9x9", "--class-name=car")
    refused = invoke("audit-boxes", "--coco", *coco, tmp_path / "out", *sizes, *QUIET)
    assert refused.stderr == "Error: --image-sizes, --class-name: for --yolo only\n"
    places = make("boxes", tmp_path / "in").places
    told = invoke("info", *places, "--ignore-index=255")
    assert told.stderr == f"Error: --ignore-index: for images only, and {places[0]!r} has boxes\n"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("boxes", ["--alpha=2"], "--alpha: got 2.0, it must be between 0 and 1"),
        ("boxes", ["--temperature=0"], "--temperature: got 0.0, it must be a number above 0"),
        ("boxes", ["--aggregation-weight=swap=1"],
         "--aggregation-weight: missing ['overlooked', 'badloc'], unknown []"),
        ("examples", ["--adjust-pred-probs", "--method=confidence_weighted_entropy"],
         "--adjust-pred-probs, --method: both were given, and the entropy of"),
    ],
)  # fmt: skip
def test_errors_name_options(kind: str, options: list[str], message: str, tmp_path: Path) -> None:
    name = "audit-boxes" if kind == "boxes" else "audit"
    result = invoke(name, *make(kind, tmp_path / "in").places, tmp_path / "o", *QUIET, *options)
    assert (result.exit_code, result.stderr.startswith(f"Error: {message}")) == (1, True)


def test_a_warning_is_said_once(tmp_path: Path) -> None:
    """Although the plan opens the boxes as the job does."""
    places = make("boxes", tmp_path / "in").places  # classes of which 0 is the fill value
    (tmp_path / "in/given_classes/c/1").unlink()
    result = invoke("audit-boxes", *places, tmp_path / "out", *QUIET)
    assert result.stderr.count("Warning: given_classes: 1 of ") == 1


def test_arrays_of_which_it_is_not_clear_what_they_are(tmp_path: Path) -> None:
    """Errors of dimensions name the options that say them."""
    group = zarr.open_group(tmp_path / "in", mode="w")
    group.create_array("labels", data=draw_examples(0, 60, 4)[0])
    group.create_array("pred_probs", data=draw_examples(0, 60, 4)[1][..., None])
    told = invoke("info", tmp_path / "in").stderr
    assert told.startswith("Error: pred_probs: got shape (60, 4, 1); for labels of shape (60,) it")
    dims = {"labels": ("time", "y", "x"), "pred_probs": ("time", "class", "y", "x")}
    case = make_case(100, (2, 4, 4), 3)
    for name, values in {"labels": case.labels, "pred_probs": case.pred_probs}.items():
        names = dims[name][::-1]
        group.create_array(name, data=values.T, dimension_names=names, overwrite=True)
    told = invoke("info", tmp_path / "in").stderr
    assert told.endswith("not clear; say --image-dim time or --image-dim none, the last for one "
                         "scene\n")  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [["audit-boxes"], ["audit-boxes", "one"], ["audit-boxes", "a", "b", "c"],
     ["audit-boxes", "a", "b", "--aggregation-weight", "swap"]],
    ids=" ".join,
)  # fmt: skip
def test_usage(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stderr.startswith("Usage:")) == (2, True)
