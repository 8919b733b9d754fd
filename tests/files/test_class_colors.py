"""Which colour stands for which class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.files.class_colors import classes_of_colors, read_colors

ROAD, SKY = [128, 64, 128], [70, 130, 180]


def test_forms(tmp_path: Path) -> None:
    lines = tmp_path / "classes.csv"
    lines.write_text("name,r,g,b\nroad,128,64,128\nsky, 70, 130, 180\n")
    listed, named = tmp_path / "list.json", tmp_path / "named.json"
    listed.write_text(json.dumps([ROAD, "#4682b4"]))
    named.write_text(json.dumps({"road": ROAD, "sky": SKY}))
    forms: list[Any] = [[ROAD, SKY], {0: ROAD, 1: SKY}, {"0": ROAD, "1": SKY}, listed]
    found = {(read_colors(form).packed, read_colors(form).classes) for form in forms}
    assert found == {((0x4682B4, 0x804080), (1, 0))}
    for form in (lines, str(named)):
        colors = read_colors(form)
        assert (colors.packed, colors.classes) in found
        assert dict(colors.names) == {0: "road", 1: "sky"}


def test_ids_of_their_own() -> None:
    colors = read_colors({7: ROAD, 255: SKY})
    picture = np.array([[ROAD, SKY, SKY]], np.uint8)
    classes = classes_of_colors(picture, colors)
    assert classes.tolist() == [[7, 255, 255]]
    assert classes.dtype == np.uint8
    wide = classes_of_colors(picture, read_colors({7: ROAD, 300: SKY}))
    assert (wide.dtype, wide.tolist()) == (np.dtype(np.uint16), [[7, 300, 300]])
    below = classes_of_colors(picture, read_colors({7: ROAD, -1: SKY}))
    assert (below.dtype, below.tolist()) == (np.dtype(np.int32), [[7, -1, -1]])


def test_several_colors_of_a_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes 0 and 1 have the same colour"):
        read_colors([ROAD, ROAD])


def test_a_color_of_no_class() -> None:
    picture = np.array([[ROAD, SKY], [SKY, SKY]], np.uint8)
    with pytest.raises(InputError, match=r"has 3 pixels of colours .* first #4682b4 at \(0, 1\)"):
        classes_of_colors(picture, read_colors([ROAD]))


@pytest.mark.parametrize(
    ("colors", "said"),
    [
        ([], "there are none"),
        ([[1, 2]], r"got \[1, 2\], it must be \[red, green, blue\]"),
        ([[1, 2, 256]], "it must be"),
        (["red"], "got 'red'"),
        (3, "got a int, it must be a list or a mapping"),
        ("none.json", "'none.json' cannot be read"),
    ],
)
def test_what_cannot_be_used(colors: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^class_colors: .*{said}"):
        read_colors(colors)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "colors"
    path.write_text('{"road": ')
    with pytest.raises(InputError, match=r"^class_colors: '.*colors' is no whole JSON"):
        read_colors(path)
    path.write_text("road,128,64,128\nsky,x,y,z\n")
    with pytest.raises(InputError, match=r"^class_colors: '.*colors' has a line that is not name"):
        read_colors(path)
