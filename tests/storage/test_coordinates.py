"""Where the pixels of one image are."""

from __future__ import annotations

import numpy as np
import xarray as xr

from dask_labelqc.storage.coordinates import AFFINE, with_places


def image(affine: object) -> xr.Dataset:
    pixels = {"label_issues": (("y", "x"), np.zeros((2, 3), bool))}
    return xr.Dataset(pixels, {AFFINE: (("world_axis", "index_axis"), np.array(affine, float))})


def test_rows_run_south() -> None:
    found = with_places(image([[0, 10, 505], [-10, 0, 95]]))
    assert found.y.values.tolist() == [95, 85]
    assert found.x.values.tolist() == [505, 515, 525]


def test_what_is_turned_has_no_coordinates_of_its_own() -> None:
    for affine in ([[1, 10, 505], [-10, 1, 95]], np.full((2, 3), np.nan), np.zeros((2, 3))):
        assert not {"x", "y"} & with_places(image(affine)).coords.keys()


def test_what_does_not_say_where_it_is() -> None:
    plain = image(np.zeros((2, 3))).drop_vars(AFFINE)
    assert with_places(plain) is plain
