from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dask_labelqc.colors import class_colors
from dask_labelqc.demo import sheet
from dask_labelqc.demo.evaluate import evaluate
from dask_labelqc.demo.sheet import SheetRow, draw_sheet, write_sheet
from dask_labelqc.errors import LabelQCError


def make_row() -> SheetRow:
    true = np.array([[0, 1], [2, 2]])
    given = np.array([[0, 0], [2, 2]])
    return SheetRow("image 7", given, true, given != true, true)


@pytest.mark.parametrize("count", [1, 2, 12, 21, 300])
def test_every_class_has_its_own_colour(count: int) -> None:
    colors = class_colors(count)
    assert colors.shape == (count, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == count


def test_panels_show_given_predicted_issues_and_truth() -> None:
    colors = class_colors(3)
    row = make_row()
    figure = draw_sheet([row, row], ["sky", "road", "car"], colors)
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:4]] == list(sheet.COLUMNS)
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[4:]]
    np.testing.assert_array_equal(shown[0], colors[row.given])
    np.testing.assert_array_equal(shown[1], colors[row.predicted])
    np.testing.assert_array_equal((shown[2] == sheet.ISSUE_COLOR).all(axis=-1), row.issues)
    np.testing.assert_array_equal(shown[3], colors[row.true])
    assert figure.axes[4].texts[0].get_text() == "image 7"


def test_the_legend_names_the_classes_that_occur() -> None:
    figure = draw_sheet([make_row()], [f"class {k}" for k in range(300)])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["class 0", "class 1", "class 2", "label issue"]


def test_the_sheet_is_a_png(dataset: Path, perfect_audit: Path, tmp_path: Path) -> None:
    worst = evaluate(dataset, perfect_audit, worst=2).worst
    path = write_sheet(tmp_path / "sheet.png", dataset, perfect_audit, worst)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert width > 4 * 300
    assert height > 2 * 300


def test_a_missing_matplotlib_prints_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "find_spec", lambda name: None)
    with pytest.raises(LabelQCError, match=r'pip install "dask-labelqc\[plot\]"'):
        draw_sheet([make_row()], ["sky", "road", "car"])
