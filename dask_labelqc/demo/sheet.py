"""A contact sheet of the worst images: given, predicted, issues, truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dask_labelqc.colors import class_colors
from dask_labelqc.demo.dataset import read_array, read_attributes
from dask_labelqc.demo.evaluate import RankedImage
from dask_labelqc.demo.scenes import CLASS_COLORS
from dask_labelqc.errors import LabelQCError
from dask_labelqc.typing import AnyArray, BoolArray, Ints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SheetRow", "draw_sheet", "require_matplotlib", "write_sheet"]

COLUMNS = ("given labels", "predicted", "issues (outlined: truly wrong)", "true labels")
ISSUE_COLOR = (220, 0, 50)
INK = "#23262e"
PANEL, GUTTER, HEADER, LEGEND_LINE = 3.0, 1.3, 0.35, 0.27
"""Inches: side of a panel, width of the captions, height of the titles and of a legend line."""
LEGEND_COLUMNS = 8


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet; the four maps have the same (H, W)."""

    caption: str
    given: Ints
    predicted: Ints
    issues: BoolArray
    true: Ints


def write_sheet(
    path: str | Path, dataset: str | Path, output: str | Path, worst: Sequence[RankedImage]
) -> Path:
    """Write the contact sheet of some images as a PNG.

    Parameters
    ----------
    path : str or Path
        File to write.
    dataset, output : str or Path
        Zarr groups of the demo's dataset and of its audit; only the images shown are read.
    worst : sequence of RankedImage
        Images from top to bottom.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    LabelQCError
        If matplotlib is not installed.
    """
    names = read_attributes(dataset)["class_names"]
    colors = np.array([_hex_to_rgb(color) for color in CLASS_COLORS], np.uint8)
    rows = list(_read_rows(dataset, output, worst))
    draw_sheet(rows, names, colors).savefig(path, dpi=128, format="png")
    return Path(path)


def draw_sheet(
    rows: Sequence[SheetRow], class_names: Sequence[str], colors: NDArray[np.uint8] | None = None
) -> Figure:
    """Draw one row of four panels for each image, and a legend of the classes that occur.

    Parameters
    ----------
    rows : sequence of SheetRow
        At least one.
    class_names : sequence of str
        One for each class.
    colors : (K, 3) uint8 array, optional
        RGB of each class; `class_colors` by default.

    Returns
    -------
    matplotlib.figure.Figure
        Not tied to any window or to pyplot.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    palette = class_colors(len(class_names)) if colors is None else colors
    classes = _classes_shown(rows)
    legend = LEGEND_LINE * (1 + -(-len(classes) // LEGEND_COLUMNS))
    width = GUTTER + len(COLUMNS) * PANEL
    height = HEADER + len(rows) * PANEL + legend
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    figure.subplots_adjust(
        left=GUTTER / width,
        right=1 - 0.05 / width,
        bottom=legend / height,
        top=1 - HEADER / height,
        wspace=0.02,
        hspace=0.02,
    )
    for row, line in zip(rows, axes, strict=True):
        _draw_row(line, row, palette)
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=11, color=INK, pad=5)
    _draw_legend(figure, classes, class_names, palette)
    return figure


def require_matplotlib() -> None:
    """Raise an error that says what to install, if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise LabelQCError(
            "the contact sheet needs matplotlib, which is not installed; "
            'run: pip install "dask-labelqc[plot]"'
        )


def _read_rows(
    dataset: str | Path, output: str | Path, worst: Iterable[RankedImage]
) -> Iterator[SheetRow]:
    for ranked in worst:
        yield SheetRow(
            caption=_caption(ranked),
            given=read_array(dataset, "labels", ranked.image),
            predicted=read_array(dataset, "pred_probs", ranked.image).argmax(axis=0),
            issues=read_array(output, "label_issues", ranked.image),
            true=read_array(dataset, "truth/true_labels", ranked.image),
        )


def _caption(ranked: RankedImage) -> str:
    truth = "labels are right"
    if ranked.wrong:
        truth = f"{ranked.error}: {ranked.error_class}\n{ranked.wrong:,} px wrong"
    return (
        f"image {ranked.image}\nscore {ranked.score:.3f}\n\n{ranked.issues:,} px flagged\n\n{truth}"
    )


def _draw_row(axes: Sequence[Any], row: SheetRow, palette: NDArray[np.uint8]) -> None:
    panels = (
        palette[row.given],
        palette[row.predicted],
        _highlight(palette[row.given], row.issues),
        palette[row.true],
    )
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(panel)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    wrong = row.given != row.true
    if wrong.any():
        axes[2].contour(wrong, levels=[0.5], colors=INK, linewidths=0.7)
    axes[0].text(
        -0.04, 0.5, row.caption, transform=axes[0].transAxes, ha="right", va="center",
        fontsize=9, color=INK, linespacing=1.4,
    )  # fmt: skip


def _highlight(image: NDArray[np.uint8], issues: BoolArray) -> AnyArray:
    """Fade an RGB image, and paint the issues over it."""
    faded = (image * 0.3 + 255 * 0.7).astype(np.uint8)
    faded[issues] = ISSUE_COLOR
    return faded


def _draw_legend(
    figure: Figure, classes: Ints, names: Sequence[str], palette: NDArray[np.uint8]
) -> None:
    from matplotlib.patches import Patch

    labelled = [*((palette[k], names[k]) for k in classes), (ISSUE_COLOR, "label issue")]
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*color), edgecolor=INK, lw=0.4, label=name)
        for color, name in labelled
    ]
    figure.legend(
        handles=patches, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=10,
        labelcolor=INK, handlelength=1.2, handleheight=1.2,
    )  # fmt: skip


def _classes_shown(rows: Sequence[SheetRow]) -> Ints:
    maps = [labels for row in rows for labels in (row.given, row.predicted, row.true)]
    return np.unique(np.concatenate([np.unique(labels) for labels in maps]))


def _hex_to_rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))
