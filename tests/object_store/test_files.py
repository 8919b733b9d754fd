"""Files in an object store: found, read in parts, and audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from dask_labelqc import files as images
from dask_labelqc.errors import InputError
from dask_labelqc.pipeline import audit_files
from tests.files import written
from tests.files.written import VOLUMES, make
from tests.object_store.servers import Server
from tests.pipeline.datasets import files

pytestmark = pytest.mark.usefixtures("keys")
LABELS, PROBS = make()


def options(s3: Server) -> dict[str, Any]:
    return {"endpoint": s3.endpoint, "one_writer": True}


def test_formats(s3: Server, bucket: Path) -> None:
    """Those that need more than a whole file: their heads, parts of them, or two places."""
    base, stores = f"s3://{bucket.name}", {"storage_options": options(s3)}
    volumes, _ = make(VOLUMES)
    written.niftis(bucket / "nii", volumes)
    written.geotiffs(bucket / "geo", PROBS)
    written.panoptic(bucket / "panoptic.json", LABELS)
    written.zarr_group(bucket / "probs.zarr", PROBS)
    written.parquet(bucket / "rows/1.parquet", LABELS, "label", True)
    for place in (f"{base}/panoptic.json", f"{base}/rows"):
        reader = images.labels(place, **stores)
        np.testing.assert_array_equal(reader.read("c"), LABELS["c"])
        assert reader.form("c").shape == LABELS["c"].shape
        assert reader.tag("c")
    for place in (f"{base}/geo/*.tif", f"{base}/probs.zarr"):
        predicted = images.pred_probs(place, **stores)
        window = (slice(2, 5), slice(1, 4))
        np.testing.assert_array_equal(predicted.read("a", window), PROBS["a"][:, 2:5, 1:4])
        assert predicted.form("a").shape == PROBS["a"].shape
    np.testing.assert_array_equal(images.labels(f"{base}/nii", **stores).read("a"), volumes["a"])


def test_audit(client: Client, s3: Server, bucket: Path, tmp_path: Path) -> None:
    for folder in (bucket, tmp_path):
        written.pictures(folder / "masks", LABELS)
        written.archives(folder / "probs", PROBS)
    base = f"s3://{bucket.name}"
    places = {"labels": f"{base}/masks/*.png", "pred_probs": f"{base}/probs/{{id}}.npz"}
    how: dict[str, Any] = {"progress": False, "group_bytes": 1, "write_pixel_scores": True}
    report = audit_files(
        f"{base}/out.zarr", **places, storage_options=options(s3), client=client, **how
    )
    here = {"labels": tmp_path / "masks", "pred_probs": tmp_path / "probs"}
    local = audit_files(tmp_path / "out.zarr", **here, **how)
    assert (report.num_issues, report.num_groups) == (local.num_issues, 3)
    stored, expected = (files(at / "out.zarr/label_issues") for at in (bucket, tmp_path))
    assert stored == expected
    written.archives(bucket / "probs", {"c": PROBS["c"][::-1]})
    again = audit_files(
        f"{base}/out.zarr", **places, storage_options=options(s3), resume=True, **how
    )
    assert again.num_resumed == 0
    assert again.num_issues != report.num_issues


def test_what_is_not_there(s3: Server, bucket: Path) -> None:
    written.pictures(bucket / "masks", LABELS)
    base, stores = f"s3://{bucket.name}", {"storage_options": options(s3)}
    with pytest.raises(InputError, match=r"^labels: 's3://bucket/none/\*.png' has no files"):
        images.labels(f"{base}/none/*.png", **stores)
    reader = images.labels([f"{base}/masks/a.png", f"{base}/masks/other.png"], **stores)
    np.testing.assert_array_equal(reader.read("a"), LABELS["a"])
    with pytest.raises(InputError, match=r"^labels: s3://bucket/masks/other.png is not there"):
        reader.read("other")
