"""Print what an audit found, and how true it is, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dask_labelqc.demo.dataset import DatasetSpec
from dask_labelqc.demo.evaluate import Evaluation
from dask_labelqc.demo.scenes import CLASS_NAMES
from dask_labelqc.terminal import printable

__all__ = ["print_evaluation", "print_size", "print_summary"]


def print_size(console: Console, spec: DatasetSpec, workers: int, memory_limit: int) -> None:
    """Print how large the predictions are, and how much memory the workers get."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    shape = f"{spec.images} images of {spec.size} x {spec.size}, {len(CLASS_NAMES)} classes"
    table.add_row("dataset", shape, f"{_gigabytes(spec.pred_probs_bytes)} of predictions")
    each = f"{workers} x {_gigabytes(memory_limit)}"
    table.add_row("workers", each, f"{_gigabytes(workers * memory_limit)} of memory")
    console.print(table)


def print_summary(console: Console, summary: Mapping[str, str]) -> None:
    """Print what the audit did."""
    table = _table("Audit", "", "")
    table.show_header = False
    for name, value in summary.items():
        _add(table, name, value)
    console.print()
    console.print(table)


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print thresholds and counts, the confused classes, the worst images, and the verdict."""
    console.print()
    for table in (_class_table, _confused_table, _worst_table, _truth_table):
        console.print(table(evaluation))


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _table(title: str, *left: str, right: tuple[str, ...] = ()) -> Table:
    """Start a table whose `left` columns are text and whose `right` ones are numbers."""
    table = Table(*left, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of text: names and paths are no markup."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _class_table(evaluation: Evaluation) -> Table:
    numbers = ("confident threshold", "labelled pixels", "issues", "share")
    table = _table("Classes", "class", right=numbers)
    for row in evaluation.classes:
        share = row.issues / row.pixels if row.pixels else 0.0
        _add(
            table,
            row.name,
            f"{row.threshold:.3f}",
            f"{row.pixels:,}",
            f"{row.issues:,}",
            f"{share:.2%}",
        )
    return table


def _confused_table(evaluation: Evaluation) -> Table:
    table = _table("Most confused classes", "given", "the model says", right=("issues",))
    for pair in evaluation.confused:
        _add(table, pair.given, pair.predicted, f"{pair.pixels:,}")
    return table


def _worst_table(evaluation: Evaluation) -> Table:
    numbers = ("rank", "image", "score", "issues", "wrong pixels")
    table = _table("Worst images", right=numbers)
    table.add_column("in truth")
    for rank, row in enumerate(evaluation.worst, start=1):
        truth = f"{row.error}: {row.error_class}" if row.wrong else "labels are right"
        counts = (f"{row.issues:,}", f"{row.wrong:,}")
        _add(table, f"{rank}", f"{row.image}", f"{row.score:.3f}", *counts, truth)
    return table


def _truth_table(evaluation: Evaluation) -> Table:
    mask, ranking = evaluation.mask, evaluation.ranking
    table = _table("Against the truth", "", "")
    table.show_header = False
    table.add_row("flagged pixels", f"{mask.flagged:,}")
    table.add_row("truly wrong pixels", f"{mask.wrong:,}")
    table.add_row("precision of the mask", f"{mask.precision:.1%}")
    table.add_row("recall of the mask", f"{mask.recall:.1%}")
    table.add_row(
        "bad images at the front",
        f"{ranking.at_front} of {ranking.bad} among the {ranking.bad} lowest scores",
    )
    table.add_row(
        "rank of a bad image",
        f"median {ranking.median_rank:g}, worst {ranking.worst_rank:g} of {ranking.images}",
    )
    table.add_row("average precision of the ranking", f"{ranking.average_precision:.3f}")
    return table
