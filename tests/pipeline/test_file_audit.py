"""The job on images in files."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client

import dask_labelqc
from dask_labelqc.errors import InputError, LabelQCWarning, OutputError
from dask_labelqc.files.file_reader import FileReader
from dask_labelqc.pipeline import JobReport, audit_files
from dask_labelqc.pipeline.file_audit import describe_files, open_files
from tests.files import written
from tests.files.written import Images
from tests.pipeline.datasets import files
from tests.pipeline.progress import Stop
from tests.ragged import PER_CLASS, PER_PIXEL, RaggedCase, ragged_case

SHAPES = [(3, 4), (7, 5), (1, 2), (6, 6), (2, 9), (4, 4)]
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}
CASE = ragged_case(SHAPES, mistakes=0.3)


def images(case: RaggedCase) -> tuple[Images, Images]:
    ids = case.table.ids.tolist()
    return (
        dict(zip(ids, case.labels, strict=True)),
        dict(zip(ids, case.pred_probs, strict=True)),
    )


def write(folder: Path, case: RaggedCase = CASE) -> dict[str, Any]:
    """Write pictures and archives of NumPy; return where they are."""
    labels, probs = images(case)
    small = {id: image.astype(np.uint8) for id, image in labels.items()}
    return {
        "labels": written.pictures(folder / "masks", small),
        "pred_probs": f"{written.archives(folder / 'probs', probs)}/*.npz",
    }


def run(output: Path, places: dict[str, Any], **arguments: Any) -> JobReport:
    how: dict[str, Any] = {"progress": False, "group_bytes": 1, "n_jobs": 2, **DENSE}
    return audit_files(output, **places, **(how | arguments))


def check(output: Path, case: RaggedCase = CASE) -> None:
    expected, audit = case.expected(), dask_labelqc.open_audit(output)
    for name in PER_CLASS:
        np.testing.assert_allclose(audit.dataset[name], expected[name], rtol=1e-12)
    for number, id in enumerate(case.table.ids.tolist()):
        image = audit.image(id)
        for name in PER_PIXEL:
            np.testing.assert_array_equal(image[name], expected[name][number])


@pytest.mark.parametrize("group_bytes", [1, 500, 10**9])
def test_against_the_reference(group_bytes: int, tmp_path: Path) -> None:
    report = run(tmp_path / "out", write(tmp_path), group_bytes=group_bytes)
    check(tmp_path / "out")
    assert (report.num_images, report.num_pixels) == (6, CASE.table.num_pixels)


def test_images_of_one_size_are_those_of_audit_zarr(tmp_path: Path) -> None:
    case = ragged_case([(4, 5)] * 3, mistakes=0.3)
    labels, probs = np.stack(case.labels), np.stack(case.pred_probs)
    zarr.save_array(tmp_path / "y", labels)
    zarr.save_array(tmp_path / "p", probs)
    dask_labelqc.audit_zarr(
        tmp_path / "y", tmp_path / "p", tmp_path / "zarr", progress=False, **DENSE
    )
    run(tmp_path / "out", write(tmp_path, case))
    found = xr.open_zarr(tmp_path / "out")
    xr.testing.assert_equal(found.drop_vars("image_id"), xr.open_zarr(tmp_path / "zarr"))
    assert found.image_id.values.tolist() == case.table.ids.tolist()


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, reads = write(tmp_path), Counter[str]()
    plain = FileReader.read

    def counted(self: FileReader, id: str, *more: Any) -> Any:
        reads[self.name(id)] += 1
        return plain(self, id, *more)

    monkeypatch.setattr(FileReader, "read", counted)
    run(tmp_path / "out", places)
    assert len(reads) == 12
    assert set(reads.values()) == {1}


def test_on_a_cluster(client: Client, tmp_path: Path) -> None:
    places = write(tmp_path)
    run(tmp_path / "out", places, client=client)
    run(tmp_path / "threads", places)
    assert files(tmp_path / "out") == files(tmp_path / "threads")


@pytest.mark.parametrize("stage", ["summarize", "count", "paint"])
def test_stopped_and_resumed_gives_the_same_bytes(stage: str, tmp_path: Path) -> None:
    places = write(tmp_path)
    run(tmp_path / "whole", places)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", places, progress=Stop(stage, 2))
    run(tmp_path / "out", places, resume=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("side", ["labels", "pred_probs"])
def test_a_resume_audits_again_what_changed(side: str, tmp_path: Path) -> None:
    places = write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", places, progress=Stop("count", 1), n_jobs=1)
    labels, probs = images(CASE)
    if side == "labels":
        other = {"image-3": 3 - labels["image-3"].astype(np.uint8)}
        written.pictures(tmp_path / "masks", other)
    else:
        written.archives(tmp_path / "probs", {"image-3": probs["image-3"][::-1]})
    report = run(tmp_path / "out", places, resume=True)
    assert report.num_resumed == 5
    run(tmp_path / "whole", places)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_ways_to_read_are_another_audit(tmp_path: Path) -> None:
    places = write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", places, progress=Stop("count", 1))
    written.arrays(tmp_path / "other", images(CASE)[1])
    others = {**places, "pred_probs": tmp_path / "other"}
    with pytest.raises(dask_labelqc.OutputError, match="pred_probs"):
        run(tmp_path / "out", others, resume=True)


def damaged(folder: Path) -> dict[str, Any]:
    """Damage three files, each in its own way: what is left of them, and what a label is."""
    places = write(folder)
    picture, archive = folder / "masks/image-1.png", folder / "probs/image-3.npz"
    for path in (picture, archive):
        path.write_bytes(path.read_bytes()[:60])
    written.archives(folder / "probs", {"image-4": np.full((4, 3, 3), 0.25, np.float32)})
    return places


def test_bad_files_are_left_out_and_listed(tmp_path: Path) -> None:
    report = run(tmp_path / "out", damaged(tmp_path), keep_going=True)
    causes = {f.images[0]: f.cause for f in report.failures}
    assert causes.keys() == {1, 3, 4}
    for number, said in {
        1: "masks/image-1.png cannot be read",
        3: "probs/image-3.npz cannot be read",
        4: "probs/image-4.npz has 4 classes of 3 x 3 pixels, its labels have 2 x 9",
    }.items():
        assert said in causes[number]
    found = report.open()
    assert found.attrs["not_audited"] == [1, 3, 4]
    assert np.isnan(found.image_score.values).tolist() == [i in (1, 3, 4) for i in range(6)]
    kept = tmp_path / "kept"
    labels, probs = images(CASE)
    good = [f"image-{i}" for i in (0, 2, 5)]
    others = {
        "labels": written.arrays(kept / "y", {id: labels[id] for id in good}),
        "pred_probs": written.arrays(kept / "p", {id: probs[id] for id in good}),
    }
    run(kept / "out", others)
    alone, all_of_it = (dask_labelqc.open_audit(at / "out") for at in (kept, tmp_path))
    for id in good:
        for name in PER_PIXEL:
            np.testing.assert_array_equal(alone.image(id)[name], all_of_it.image(id)[name])


def test_what_was_mended_is_audited(tmp_path: Path) -> None:
    places = damaged(tmp_path)
    run(tmp_path / "out", places, keep_going=True)
    write(tmp_path)
    run(tmp_path / "out", places, resume=True)
    check(tmp_path / "out")


def test_a_bad_file_is_one_error(tmp_path: Path) -> None:
    places = damaged(tmp_path)
    with pytest.raises(InputError, match=r"^labels: .*masks/image-1.png cannot be read"):
        run(tmp_path / "out", places)
    written.pictures(tmp_path / "masks", {"image-1": CASE.labels[1].astype(np.uint8)})
    (tmp_path / "probs/image-3.npz").unlink()
    with (
        pytest.warns(LabelQCWarning, match="1 of labels without pred_probs, image-3"),
        pytest.raises(
            InputError, match=r"^pred_probs: .*image-4.npz has 4 classes of 3 x 3 pixels"
        ),
    ):
        run(tmp_path / "out", places, overwrite=True)


def test_a_class_that_is_not_known(tmp_path: Path) -> None:
    places = write(tmp_path)
    written.pictures(tmp_path / "masks", {"image-3": np.full((6, 6), 9, np.uint8)})
    with pytest.raises(InputError, match=r"the first is 9 at image 3 \(image-3\), pixel \(0, 0\)"):
        run(tmp_path / "out", places)
    report = run(tmp_path / "out", places, keep_going=True, overwrite=True)
    assert "image 3 (image-3)" in report.failures[0].cause
    run(tmp_path / "ignored", places, ignore_index=9)


def test_predictions_of_another_kind(tmp_path: Path) -> None:
    places, (_, probs) = write(tmp_path), images(CASE)
    one = probs["image-5"]
    for other, said in (
        (one[:3], "image-5.npz has 3 classes, others have 4"),
        (one.astype(np.float64), "image-5.npz has float64, others have float32"),
    ):
        written.archives(tmp_path / "probs", {"image-5": other})
        with pytest.raises(InputError, match=rf"^pred_probs: .*{said}"):
            run(tmp_path / "out", places, overwrite=True)


class Squares:
    """A reader of one's own."""

    ids = tuple(CASE.table.ids.tolist())

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, id: str) -> Any:
        return getattr(CASE, self.name)[self.ids.index(id)]


def test_readers_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places = {name: Squares(name) for name in ("labels", "pred_probs")}
    run(tmp_path / "out", places)
    check(tmp_path / "out")
    assert run(tmp_path / "out", places, resume=True).num_resumed == 6
    assert "test_file_audit.Squares changed since it was read is not known" in caplog.text


def test_upsampled_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    shapes = {"a": (8, 12), "b": (4, 4), "c": (12, 8)}
    labels = {id: rng.integers(0, 3, shape).astype(np.uint8) for id, shape in shapes.items()}
    coarse = {
        id: np.moveaxis(rng.dirichlet(np.ones(3), (h // 4, w // 4)), -1, 0).astype(np.float32)
        for id, (h, w) in shapes.items()
    }
    places: dict[str, Any] = {
        "labels": written.arrays(tmp_path / "y", labels),
        "pred_probs": written.arrays(tmp_path / "p", coarse),
    }
    with pytest.raises(InputError, match="upsample=4 makes them fit"):
        run(tmp_path / "out", places)
    for kind in ("bilinear", "nearest"):
        how = {"upsample": 4, "interpolation": kind}
        run(tmp_path / kind, places, **how)
        run(tmp_path / f"{kind}-whole", places, group_bytes=10**9, **how)
        one, other = (xr.open_zarr(tmp_path / f"{kind}{end}") for end in ("", "-whole"))
        xr.testing.assert_equal(one, other)
    repeated = {id: p.repeat(4, 1).repeat(4, 2) for id, p in coarse.items()}
    run(tmp_path / "r", {**places, "pred_probs": written.arrays(tmp_path / "rp", repeated)})
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "nearest"), xr.open_zarr(tmp_path / "r"))


def scene(folder: Path, nodata: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, (20, 30)).astype(np.uint8)
    labels[:2] = 0 if nodata is None else nodata
    probs = np.moveaxis(rng.dirichlet(np.ones(3), (20, 30)), -1, 0).astype(np.float32)
    written.geotiff(folder / "y/scene.tif", labels, nodata=nodata, tiled=True, blockxsize=16,
                    blockysize=16)  # fmt: skip
    written.geotiff(folder / "p/scene.tif", probs, tiled=True, blockxsize=16, blockysize=16)
    return {"labels": folder / "y", "pred_probs": folder / "p"}


def test_tiles_of_a_scene_are_images(tmp_path: Path) -> None:
    places = scene(tmp_path)
    run(tmp_path / "tiles", places, tile=16)
    run(tmp_path / "whole", places)
    tiles, whole = (dask_labelqc.open_audit(tmp_path / name) for name in ("tiles", "whole"))
    corners = ["0,0", "0,16", "16,0", "16,16"]
    assert tiles.ids.tolist() == [f"scene@{corner}" for corner in corners]
    image = whole.image("scene")
    for corner in corners:
        row, column = map(int, corner.split(","))
        part = image.isel(y=slice(row, row + 16), x=slice(column, column + 16))
        tile = tiles.image(f"scene@{corner}")
        for name in PER_PIXEL:
            np.testing.assert_array_equal(tile[name], part[name])
        np.testing.assert_array_equal(tile.x, part.x)
        np.testing.assert_array_equal(tile.y, part.y)
    assert image.x.values[[0, -1]].tolist() == [500005, 500295]
    assert image.y.values[[0, -1]].tolist() == [4999995, 4999805]
    assert 'AUTHORITY["EPSG","32633"]' in image.spatial_ref.attrs["crs_wkt"]


def test_no_data_takes_part_in_nothing(tmp_path: Path) -> None:
    run(tmp_path / "out", scene(tmp_path, nodata=255))
    found = xr.open_zarr(tmp_path / "out")
    assert found.attrs["ignore_index"] == 255 or found.attrs["ignore_index"] == [255]
    assert found.class_count.sum() == 18 * 30
    assert np.isnan(found.pixel_scores.values[0, :2]).all()


def test_files_that_mean_different_labels_by_none(tmp_path: Path) -> None:
    labels = np.zeros((4, 4), np.uint8)
    for id, nodata in (("a", 255), ("b", 0)):
        written.geotiff(tmp_path / f"y/{id}.tif", labels, nodata=nodata)
        written.geotiff(tmp_path / f"p/{id}.tif", np.full((2, 4, 4), 0.5, np.float32))
    with pytest.raises(InputError, match=r"a.tif has 255 for no data, and .*b.tif 0; one label"):
        run(tmp_path / "out", {"labels": tmp_path / "y", "pred_probs": tmp_path / "p"})


def test_predictions_on_another_grid(tmp_path: Path) -> None:
    places = scene(tmp_path)
    coarse = np.full((3, 12, 17), 1 / 3, np.float32)
    grid = written.grid(499_980, 5_000_020, 20, 20)
    written.geotiff(tmp_path / "p/scene.tif", coarse, grid)
    with pytest.raises(InputError, match=r"has 3 classes of 12 x 17 pixels, its labels have"):
        run(tmp_path / "out", places)
    run(tmp_path / "out", places, resample=True)
    run(tmp_path / "tiles", places, resample=True, tile=7)
    one, other = (xr.open_zarr(tmp_path / name) for name in ("out", "tiles"))
    np.testing.assert_array_equal(one.confident_threshold, other.confident_threshold)


def test_files_that_have_no_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^tile: .*image-0.png cannot be read in parts"):
        run(tmp_path / "out", write(tmp_path), tile=2)


def test_images_of_other_dimensions(tmp_path: Path) -> None:
    labels = {"a": np.zeros((2, 2), np.uint8), "b": np.zeros((2, 2, 2), np.uint8)}
    places = {
        "labels": written.arrays(tmp_path / "y", labels),
        "pred_probs": written.arrays(tmp_path / "p", labels),
    }
    with pytest.raises(InputError, match=r"a.npy has shape \(2, 2\), and .*b.npy \(2, 2, 2\)"):
        run(tmp_path / "out", places)


def test_a_task_brings_little(tmp_path: Path) -> None:
    many = {f"a-long-name-of-an-image-{i:06}": np.zeros((2, 2), np.uint8) for i in range(400)}
    probs = np.full((2, 2, 2), 0.5, np.float32)
    inputs = open_files(
        written.arrays(tmp_path / "y", many),
        written.arrays(tmp_path / "p", dict.fromkeys(many, probs)),
    )
    dumped = pickle.dumps(inputs)
    assert len(dumped) < 30_000
    again = pickle.loads(dumped).source
    np.testing.assert_array_equal(again.read(7)[1], probs)


def test_what_is_in_files_and_would_be_read(tmp_path: Path) -> None:
    rows = describe_files(**write(tmp_path))
    assert rows["labels"] == "6 images of 6 sizes, 1 x 2 to 6 x 6"
    assert rows["images"] == "6 of 1 x 2 to 6 x 6 pixels"
    assert rows["classes"] == "4"


def test_volumes(tmp_path: Path) -> None:
    case = ragged_case([(3, 4, 2), (2, 5, 3)], mistakes=0.3)
    labels, probs = images(case)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [10, 20, 30]
    small = {id: image.astype(np.uint8) for id, image in labels.items()}
    places = {
        "labels": written.niftis(tmp_path / "y", small, affine=affine),
        "pred_probs": written.niftis(tmp_path / "p", probs, ".nii", affine=affine),
    }
    run(tmp_path / "out", places)
    check(tmp_path / "out", case)
    image = dask_labelqc.open_audit(tmp_path / "out").image("image-1")
    assert image.label_issues.dims == ("z", "y", "x")
    assert [image[dim].values[1] for dim in ("z", "y", "x")] == [12, 23, 34]


def npy(folder: Path, labels: Any, probs: Any, name: str = "a") -> dict[str, Any]:
    """Write an image in files of NumPy."""
    for side, image in (("labels", labels), ("pred_probs", probs)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        np.save(folder / side / f"{name}.npy", image)
    return {side: folder / side for side in ("labels", "pred_probs")}


def test_a_folder_whose_name_has_brackets(tmp_path: Path) -> None:
    places = npy(tmp_path / "br[2]", CASE.labels[0], CASE.pred_probs[0])
    assert run(tmp_path / "out", places).num_images == 1
    patterns = {side: f"{folder}/{{id}}.npy" for side, folder in places.items()}
    assert run(tmp_path / "patterns", patterns).num_images == 1


def test_numbers_with_the_high_byte_first(tmp_path: Path) -> None:
    labels, probs = CASE.labels[0].astype(np.int32), CASE.pred_probs[0].astype(np.float32)
    run(tmp_path / "out", npy(tmp_path / "in", labels, probs))
    swapped = npy(tmp_path / "other", labels.astype(">i4"), probs.astype(">f4"))
    run(tmp_path / "swapped", swapped)
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "swapped"), xr.open_zarr(tmp_path / "out"))


def test_predictions_of_one_class_name_the_file(tmp_path: Path) -> None:
    places = npy(tmp_path / "in", CASE.labels[0], CASE.pred_probs[0][None])
    with pytest.raises(InputError, match=r"pred_probs: .*a\.npy has shape \(1, .*, K = 1 classes"):
        run(tmp_path / "out", places)
    np.save(tmp_path / "in/pred_probs/a.npy", np.array([{}]))
    with pytest.raises(InputError, match=r"a\.npy holds pickled objects"):
        run(tmp_path / "out", places)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    places = npy(tmp_path / "in", CASE.labels[0], CASE.pred_probs[0], "caf\udce9")
    with pytest.raises(InputError, match=r"^labels: 'caf\\udce9.npy' is no Unicode text"):
        run(tmp_path / "out", places)


def test_a_file_that_was_added_is_told(tmp_path: Path) -> None:
    places = npy(tmp_path / "in", CASE.labels[0], CASE.pred_probs[0])
    run(tmp_path / "out", places)
    npy(tmp_path / "in", CASE.labels[0], CASE.pred_probs[0], "b")
    with pytest.raises(OutputError, match=r"table was '1 image .* and is '2 images "):
        run(tmp_path / "out", places, resume=True)
