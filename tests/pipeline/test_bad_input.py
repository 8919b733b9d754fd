"""Every kind of bad input: one error that names the argument, the value and the place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from dask_labelqc.cli import labelqc
from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.pipeline import audit_zarr, plan_audit
from tests.pipeline.datasets import Stored, check, mend, write, write_case
from tests.strategies import Case, make_case

LABELS = make_case(70, (4, 6, 8), 4, label_dtype="i2").labels
PROBS = make_case(70, (4, 6, 8), 4, label_dtype="i2").pred_probs


def changed(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@dataclass(frozen=True)
class Bad:
    """What is wrong, and what the error says."""

    message: str
    labels: np.ndarray = field(default_factory=lambda: LABELS)
    pred_probs: np.ndarray = field(default_factory=lambda: PROBS)
    arguments: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    damage: Callable[[Path], None] = lambda path: None

    def write(self, path: Path) -> Stored:
        group = zarr.open_group(path, mode="w")
        for name in ("labels", "pred_probs"):
            array = getattr(self, name)
            group.create_array(name, data=array, chunks=(1, *array.shape[1:]))
        group["pred_probs"].attrs.update(self.attributes)
        self.damage(path)
        return Stored(path / "labels", path / "pred_probs")

    def as_printed(self, path: Path) -> str:
        """The message on the command line, arguments in its language."""
        text = self.message.format(path=path)
        text = re.sub(r"^(from_logits|downsample|temperature)(?=: )", option, text)
        text = re.sub(r"(\w+)(?==True)", option, text).replace("=True", "")
        return re.sub(r"ignore_index=", "--ignore-index ", text)

    @property
    def options(self) -> list[str]:
        return [
            part
            for name, value in self.arguments.items()
            for part in ("--" + name.replace("_", "-"), *([] if value is True else [str(value)]))
        ]


def option(name: re.Match[str]) -> str:
    return "--" + name[0].replace("_", "-")


def replace_by_group(path: Path) -> None:
    shutil.rmtree(path / "labels")
    zarr.open_group(path / "labels", mode="w")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


BEFORE = {
    "no labels": Bad(
        "labels: there is no Zarr array at '{path}/labels'",
        damage=lambda path: shutil.rmtree(path / "labels"),
    ),
    "no pred_probs": Bad(
        "pred_probs: there is no Zarr array at '{path}/pred_probs'",
        damage=lambda path: shutil.rmtree(path / "pred_probs"),
    ),
    "group": Bad(
        "labels: '{path}/labels' is a Zarr group; name the array in it, such as "
        "'{path}/labels/labels'",
        damage=replace_by_group,
    ),
    "damaged metadata": Bad(
        "pred_probs: the metadata of the Zarr array at '{path}/pred_probs' are damaged: ",
        damage=lambda path: truncate(path / "pred_probs/zarr.json"),
    ),
    "one image": Bad("labels: got shape (8,), it must be (N, *spatial)", labels=LABELS[0, 0]),
    "ndim": Bad(
        "pred_probs: got shape (4, 4, 8), it must be (N, K, *spatial) with one dimension more",
        pred_probs=PROBS[..., 0, :],
    ),
    "4 dimensions": Bad(
        "labels: got shape (4, 1, 1, 6, 8), at most 3 spatial dimensions are supported",
        labels=LABELS[:, None, None],
        pred_probs=PROBS[:, :, None, None],
    ),
    "number of images": Bad(
        "pred_probs: got shape (3, 4, 6, 8), it must be (N, K, *spatial) with the N and spatial "
        "shape of labels (4, 6, 8)",
        pred_probs=PROBS[:3],
    ),
    "size": Bad("pred_probs: got shape (4, 4, 6, 7), it must be", pred_probs=PROBS[..., :7]),
    "one class": Bad(
        "pred_probs: got shape (4, 1, 6, 8), K = 1 classes; it must be 2 up",
        pred_probs=PROBS[:, :1],
    ),
    "label dtype": Bad(
        "labels: got dtype complex64, it must be an integer dtype", labels=LABELS.astype("c8")
    ),
    "dtype": Bad("pred_probs: got dtype int32, it must be float16", pred_probs=PROBS.astype("i4")),
    "logits of integers": Bad(
        "from_logits: pred_probs are uint8; logits must be floating point",
        pred_probs=(PROBS * 255).astype("u1"),
        arguments={"from_logits": True},
    ),
    "downsample": Bad(
        "downsample: 3 does not divide the image shape (6, 8); it may be 1, 2",
        arguments={"downsample": 3},
    ),
    "downsample by nothing": Bad(
        "downsample: got 0, it must be an integer of 1 or more", arguments={"downsample": 0}
    ),
    "temperature": Bad(
        "temperature: got -1.0, it must be a number above 0", arguments={"temperature": -1.0}
    ),
    "scale": Bad(
        "pred_probs: scale_factor is -0.1, it must be a number above 0",
        pred_probs=(PROBS * 255).astype("u1"),
        attributes={"scale_factor": -0.1},
    ),
    "scale in words": Bad(
        "pred_probs: scale_factor is 'one', it must be a number above 0",
        pred_probs=(PROBS * 255).astype("u1"),
        attributes={"scale_factor": "one"},
    ),
    "offset": Bad(
        "pred_probs: add_offset is 0.5, it must be 0 or not there",
        pred_probs=(PROBS * 255).astype("u1"),
        attributes={"scale_factor": 1 / 255, "add_offset": 0.5},
    ),
}

WHILE = {
    "label too large": Bad(
        "labels: 1 of 48 pixels in image 2 are outside 0..3 and not ignored, the first is 4 at "
        "image 2, pixel (3, 5); ignore_index=4 leaves such pixels out",
        labels=changed(LABELS, (2, 3, 5), 4),
    ),
    "a fraction of a label": Bad(
        "labels: got 1.5 at image 2, pixel (3, 5); labels of dtype float32 must be whole numbers",
        labels=changed(LABELS.astype("f4"), (2, 3, 5), 1.5),
    ),
    "negative label": Bad(
        "outside 0..3 and not ignored, the first is -1 at image 0, pixel (0, 7); ignore_index=-1",
        labels=changed(LABELS, (0, 0, 7), -1),
    ),
    "some ignored, some not": Bad(
        "labels: 8 of 48 pixels in image 1 are outside 0..3 and not ignored, the first is 254 at "
        "image 1, pixel (5, 0)",
        labels=changed(changed(LABELS, (0, 1), 255), (1, 5), 254),
        arguments={"ignore_index": 255},
    ),
    "NaN": Bad(
        "pred_probs: class 2 is nan at image 3, pixel (1, 4); it must be finite",
        pred_probs=changed(PROBS, (3, 2, 1, 4), np.nan),
    ),
    "infinity": Bad(
        "pred_probs: class 0 is inf at image 1, pixel (5, 7); it must be finite",
        pred_probs=changed(PROBS, (1, 0, 5, 7), np.inf),
    ),
    "negative": Bad(
        "pred_probs: class 1 is -0.25 at image 2, pixel (0, 0); probabilities must lie between 0 "
        "and 1; from_logits=True is for logits",
        pred_probs=changed(PROBS, (2, 1, 0, 0), -0.25),
    ),
    "above one": Bad(
        "pred_probs: class 3 is 1.5 at image 2, pixel (5, 0); probabilities must lie between 0",
        pred_probs=changed(PROBS, (2, 3, 5, 0), 1.5),
    ),
    "infinite logit": Bad(
        "pred_probs: class 3 is inf at image 2, pixel (5, 0); it must be finite",
        pred_probs=changed(PROBS, (2, 3, 5, 0), np.inf),
        arguments={"from_logits": True},
    ),
    "zeros": Bad(
        "pred_probs: all 4 probabilities are 0 at image 1, pixel (4, 2); a chunk that is missing",
        pred_probs=changed(PROBS, (1, slice(None), 4, 2), 0),
    ),
    "missing chunk": Bad(
        "pred_probs: all 4 probabilities are 0 at image 2, pixel (0, 0); a chunk that is missing "
        "in the store reads so, check that the predictions are complete",
        damage=lambda path: (path / "pred_probs/c/2/0/0/0").unlink(),
    ),
    "missing chunk of any fill value": Bad(
        "pred_probs: the chunk 'c/2/0/0/0' is not in the store and all classes read as "
        "0.0 at image 2, pixel (0, 0); check that the predictions are complete",
        arguments={"validate": "labels"},
        damage=lambda path: (path / "pred_probs/c/2/0/0/0").unlink(),
    ),
    "missing chunk of logits": Bad(
        "pred_probs: the chunk 'c/1/0/0/0' is not in the store and all classes read as "
        "0.0 at image 1, pixel (0, 0); check that the predictions are complete",
        arguments={"from_logits": True},
        damage=lambda path: (path / "pred_probs/c/1/0/0/0").unlink(),
    ),
    "missing chunk, downsampled": Bad(
        "pred_probs: all 4 probabilities are 0 at image 2, pixel (0, 0); a chunk that is missing",
        arguments={"downsample": 2},
        damage=lambda path: (path / "pred_probs/c/2/0/0/0").unlink(),
    ),
    "truncated chunk": Bad(
        "pred_probs: a chunk in image 2 cannot be decoded (",
        damage=lambda path: truncate(path / "pred_probs/c/2/0/0/0"),
    ),
    "truncated chunk of labels": Bad(
        "labels: a chunk in image 1 cannot be decoded (",
        damage=lambda path: truncate(path / "labels/c/1/0/0"),
    ),
}
ALL = BEFORE | WHILE
usual = pytest.mark.usefixtures("smallest_groups")


@usual
@pytest.mark.parametrize("bad", ALL.values(), ids=ALL)
def test_in_python(bad: Bad, tmp_path: Path) -> None:
    stored = bad.write(tmp_path / "in")
    message = re.escape(bad.message.format(path=tmp_path / "in"))
    with pytest.raises(InputError, match=message):
        audit_zarr(
            *stored, tmp_path / "out", progress=False, group_bytes=1, n_jobs=1, **bad.arguments
        )


@pytest.mark.parametrize("bad", BEFORE.values(), ids=BEFORE)
def test_before_anything_is_made(bad: Bad, tmp_path: Path) -> None:
    stored = bad.write(tmp_path / "in")
    message = re.escape(bad.message.format(path=tmp_path / "in"))
    with pytest.raises(InputError, match=message):
        plan_audit(*stored, **bad.arguments)
    with pytest.raises(InputError, match=message):
        audit_zarr(*stored, tmp_path / "out", progress=False, **bad.arguments)
    assert not (tmp_path / "out").exists()


@usual
@pytest.mark.parametrize("bad", ALL.values(), ids=ALL)
def test_on_the_command_line(bad: Bad, tmp_path: Path) -> None:
    stored = bad.write(tmp_path / "in")
    arguments = ["audit", *map(str, stored), str(tmp_path / "out"), "--workers=0", "--quiet"]
    result = CliRunner().invoke(labelqc, [*arguments, *bad.options])
    message = bad.as_printed(tmp_path / "in")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    if bad not in WHILE.values() or "of 48" not in message:  # all images are one group here
        assert message.removeprefix("labels: ").split(" in image")[0] in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@usual
@pytest.mark.parametrize("name", ["label too large", "missing chunk", "truncated chunk"])
def test_mended_and_resumed(name: str, tmp_path: Path) -> None:
    """The groups that were done before the error are not read again."""
    bad = WHILE[name]
    stored = bad.write(tmp_path / "in")
    with pytest.raises(InputError):
        audit_zarr(*stored, tmp_path / "out", progress=False, group_bytes=1, n_jobs=1)
    case = Case(LABELS, PROBS)
    mend(tmp_path / "in", case)
    report = audit_zarr(*stored, tmp_path / "out", progress=False, group_bytes=1, resume=True)
    assert report.num_resumed >= 2
    check(tmp_path / "out", case)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validate": "some"}, "validate: got 'some', it must be one of full, labels, none"),
        ({"label_downsample": "max"}, "label_downsample: got 'max', it must be one of mean, maj"),
        ({"ignore_index": "255"}, "ignore_index: got '255', it must be an integer or several"),
        ({"ignore_index": [1, 2.5]}, "ignore_index: got 2.5, it must be an integer or several"),
        ({"downsample": 1.5}, "downsample: got 1.5, it must be an integer of 1 or more"),
        ({"temperature": float("nan")}, "temperature: got nan, it must be a number above 0"),
        ({"group_bytes": 0}, "group_bytes: got 0, it must be 1 or more"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments(arguments: dict, message: str, tmp_path: Path) -> None:
    stored = write(tmp_path / "in", LABELS, PROBS)
    with pytest.raises(InputError, match=re.escape(message)):
        audit_zarr(*stored, tmp_path / "out", progress=False, **arguments)
    assert not (tmp_path / "out").exists()


def test_unknown_keyword(tmp_path: Path) -> None:
    stored = write(tmp_path / "in", LABELS, PROBS)
    with pytest.raises(TypeError, match="unexpected keyword argument 'treshold'"):
        audit_zarr(*stored, tmp_path / "out", treshold=1)  # type: ignore[call-arg]


def test_empty_dataset(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    labels = group.create_array("labels", shape=(0, 6, 8), chunks=(1, 6, 8), dtype="u1")
    probs = group.create_array("pred_probs", shape=(0, 4, 6, 8), chunks=(1, 4, 6, 8), dtype="f4")
    with pytest.raises(InputError, match=r"labels: got shape \(0, 6, 8\), the dataset is empty"):
        audit_zarr(labels, probs, tmp_path / "out", progress=False)


@usual
def test_sums_that_are_off(tmp_path: Path) -> None:
    """One warning for the worst of all groups, and the answer."""
    probs = PROBS.copy()
    probs[1, :, 2, 3] *= 0.9
    probs[3, :, 4, 5] *= 0.8
    stored = write(tmp_path / "in", LABELS, probs)
    message = (
        r"pred_probs: the probabilities of a pixel should sum to 1 \(within 0.01\); the worst sum "
        r"is 0.8 at image 3, pixel \(4, 5\)"
    )
    with pytest.warns(LabelQCWarning, match=message) as caught:
        audit_zarr(*stored, tmp_path / "out", progress=False, group_bytes=1)
    assert len(caught) == 1
    check(tmp_path / "out", Case(LABELS, probs))
    arguments = ["audit", *map(str, stored), str(tmp_path / "cli"), "--workers=0", "--quiet"]
    result = CliRunner().invoke(labelqc, arguments)
    assert result.exit_code == 0
    assert re.fullmatch(f"Warning: {message}\n", result.stderr)


@usual
def test_validate_less(tmp_path: Path) -> None:
    """Without looking at the probabilities; labels out of range are then left aside."""
    case = Case(LABELS, PROBS * np.float32(0.5))
    stored = write_case(tmp_path / "in", case)
    audit_zarr(*stored, tmp_path / "out", progress=False, validate="labels")
    check(tmp_path / "out", case)
    outside = changed(LABELS, (2, 3, 5), 4)
    stored = write(tmp_path / "in", outside, PROBS)
    with pytest.raises(InputError, match="the first is 4"):
        audit_zarr(*stored, tmp_path / "out2", progress=False, validate="labels")
    audit_zarr(*stored, tmp_path / "out3", progress=False, validate="none")
    check(tmp_path / "out3", Case(outside, PROBS, (4,)))


@usual
def test_void_pixels_may_have_no_probabilities(tmp_path: Path) -> None:
    """What is ignored takes part in nothing: neither does its row of zeros."""
    labels = LABELS.copy()
    labels[1] = 255
    probs = PROBS.copy()
    probs[1] = 0
    stored = write(tmp_path / "in", labels, probs)
    audit_zarr(*stored, tmp_path / "out", progress=False, ignore_index=255)
    check(tmp_path / "out", Case(labels, probs, (255,)))
