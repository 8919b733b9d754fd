"""What a job did, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from dask_labelqc.errors import Advice
from dask_labelqc.pipeline.measures import Failure
from dask_labelqc.storage.connections import without_keys
from dask_labelqc.storage.stores import open_store
from dask_labelqc.typing import Floats, Ints

__all__ = [
    "WORST",
    "BoxReport",
    "ExampleReport",
    "JobReport",
    "Report",
    "lowest",
    "most",
    "summary_of",
]

WORST = 5
"""Images and classes that a report names."""
SHOWN = 20
"""Causes that are listed; the output's attribute has all images that were left out."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What every job tells; everything else is in its output.

    Attributes
    ----------
    output
        Where it is.
    num_issues
        Of the dataset.
    num_groups, num_resumed
        Groups in all, and those that an earlier run had finished.
    bytes_read
        Of predictions, decoded.
    seconds
        Of each stage.
    read_ratio
        Part of the time of the tasks that read the predictions for which they waited for data.
    peak_bytes
        The most memory that a worker process has held, 0 if nothing was run.
    failures
        Images, or examples, that were left out, and why.
    storage_options
        With which it was written. A report that is pickled keeps none of the keys: where it is
        unpickled, keys are those of the environment.
    """

    item: ClassVar[str] = "image"
    output: str
    num_issues: int
    num_groups: int
    num_resumed: int
    bytes_read: int
    seconds: Mapping[str, float]
    read_ratio: float = 0.0
    peak_bytes: int = 0
    failures: tuple[Failure, ...] = ()
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def open(self) -> xr.Dataset:
        """Open the output, lazily."""
        dataset: xr.Dataset = xr.open_zarr(open_store(self.output, self.storage_options))
        return dataset

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"storage_options": without_keys(self.storage_options)}

    def found(self) -> dict[str, str]:
        """Return what was found, as text by name."""
        raise NotImplementedError

    def summary(self) -> dict[str, str]:
        """Return what was done, as text by name; the command line prints it at the end."""
        return summary_of(self)


@dataclass(frozen=True, kw_only=True)
class JobReport(Report):
    """What a job on images did; see `Report` for what every job tells.

    Attributes
    ----------
    num_images, num_pixels
        Of the dataset.
    worst_images
        (image, softmin score) of those with the lowest scores, the lowest first; an image by its
        number, or by its id if images have any.
    worst_classes
        (name or index, issues) of the given classes with the most, the most first.
    """

    num_images: int
    num_pixels: int
    worst_images: tuple[tuple[int | str, float], ...]
    worst_classes: tuple[tuple[str, int], ...] = ()

    def found(self) -> dict[str, str]:
        """Return what was found, as text by name."""
        return {
            "images": f"{self.num_images:,}",
            "pixels": f"{self.num_pixels:,}",
            "label issues": _share(self.num_issues, self.num_pixels, "pixels"),
            "worst images": _named_scores(self.worst_images),
        } | _of_classes(self.worst_classes)


@dataclass(frozen=True, kw_only=True)
class ExampleReport(Report):
    """What a job on examples did; see `Report` for what every job tells.

    Attributes
    ----------
    num_examples
        Of the dataset.
    worst_examples
        The issues with the lowest scores, the lowest first: their numbers, or ids if they have any.
    worst_classes
        (name or index, issues) of the given classes with the most, the most first.
    """

    item: ClassVar[str] = "example"
    num_examples: int
    worst_examples: tuple[int | str, ...]
    worst_classes: tuple[tuple[str, int], ...] = ()

    def found(self) -> dict[str, str]:
        """Return what was found, as text by name."""
        return {
            "examples": f"{self.num_examples:,}",
            "label issues": _share(self.num_issues, self.num_examples, "examples"),
            "worst examples": ", ".join(map(str, self.worst_examples)),
        } | _of_classes(self.worst_classes)


@dataclass(frozen=True, kw_only=True)
class BoxReport(Report):
    """What a job on boxes did; its issues are images. See `Report` for what every job tells.

    Attributes
    ----------
    num_images, num_given, num_predicted
        Images, given and predicted boxes of the dataset.
    worst_images
        (image, score) of those with the lowest scores, the lowest first; an image by its number, or
        by its id if images have any.
    """

    num_images: int
    num_given: int
    num_predicted: int
    worst_images: tuple[tuple[int | str, float], ...]

    def found(self) -> dict[str, str]:
        """Return what was found, as text by name."""
        return {
            "images": f"{self.num_images:,}",
            "boxes": f"{self.num_given:,} given, {self.num_predicted:,} predicted",
            "label issues": _share(self.num_issues, self.num_images, "images"),
            "worst images": _named_scores(self.worst_images),
        }


def summary_of(report: Report, told: Callable[[Advice], str] = str) -> dict[str, str]:
    """Return the facts of a report, as text by name; `told` writes advice."""
    resumed = f", {report.num_resumed:,} of them by an earlier run" if report.num_resumed else ""
    rows = {
        **report.found(),
        "groups": f"{report.num_groups:,}{resumed}",
        "predictions read": _read(report),
        "seconds": _seconds(report),
        "waited for data": f"{report.read_ratio:.0%} of the time of the tasks that read",
        "peak of a worker": format_bytes(report.peak_bytes),
        "output": report.output,
    }
    if not report.bytes_read:
        del rows["waited for data"]
    if not report.peak_bytes:
        del rows["peak of a worker"]
    return rows | _left_out(report, told)


def _read(report: Report) -> str:
    seconds, size = report.seconds.get("summarize", 0), report.bytes_read
    rate = f", {size / seconds / 1e9:.2f} GB/s" if seconds and size else ""
    return f"{format_bytes(size)}{rate}"


def _seconds(report: Report) -> str:
    if not report.seconds:
        return "0"
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())
    return f"{sum(report.seconds.values()):.1f}: {stages}"


def _left_out(report: Report, told: Callable[[Advice], str]) -> dict[str, str]:
    """Name what was left out, each run with its cause."""
    if not report.failures:
        return {}
    count = sum(stop - first for first, stop in (f.images for f in report.failures))
    rows = {"not audited": f"{count:,} {report.item}{'s' * (count != 1)}"}
    for failure in report.failures[:SHOWN]:
        first, last = failure.images[0], failure.images[1] - 1
        cause = failure.cause + (f"; {told(failure.advice)}" if failure.advice else "")
        rows[f"  {first:,}" if first == last else f"  {first:,} to {last:,}"] = cause
    if len(report.failures) > SHOWN:
        more = len(report.failures) - SHOWN
        rows["  ..."] = f"and {more:,} more; the output's attribute not_audited has all"
    return rows


def _share(count: int, of: int, what: str) -> str:
    return f"{count:,} {what} ({count / max(of, 1):.2%})"


def _of_classes(worst: tuple[tuple[str, int], ...]) -> dict[str, str]:
    text = ", ".join(f"{name} ({count:,})" for name, count in worst)
    return {"worst classes": text} if worst else {}


def _named_scores(worst: tuple[tuple[int | str, float], ...]) -> str:
    return ", ".join(f"{place} ({score:.3f})" for place, score in worst)


def lowest(scores: Floats) -> tuple[tuple[int, float], ...]:
    """Return the places of the lowest scores, and the scores.

    Examples
    --------
    >>> lowest(np.array([0.5, np.nan, 0.25]))
    ((2, 0.25), (0, 0.5))
    """
    worst = np.argsort(scores, kind="stable")[:WORST]
    return tuple((int(i), float(scores[i])) for i in worst if not np.isnan(scores[i]))


def most(counts: Ints, names: Mapping[int, str]) -> tuple[tuple[str, int], ...]:
    """Return the classes of which most were counted, by name or number, and the counts.

    Examples
    --------
    >>> most(np.array([0, 3, 7]), {1: "road"})
    (('2', 7), ('road', 3))
    """
    classes = np.argsort(-counts, kind="stable")[:WORST].tolist()
    return tuple((names.get(k, str(k)), int(counts[k])) for k in classes if counts[k])
