"""What a job did, as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dask.utils import format_bytes

from dask_labelqc.errors import Advice

if TYPE_CHECKING:
    from dask_labelqc.pipeline.job import JobReport

__all__ = ["summary_of"]

SHOWN = 20
"""Causes that are listed; the output's attribute has all images that were left out."""


def summary_of(report: JobReport, told: Callable[[Advice], str] = str) -> dict[str, str]:
    """Return the facts of a report, as text by name; `told` writes advice."""
    issues = report.num_issues / max(report.num_pixels, 1)
    resumed = f", {report.num_resumed:,} of them by an earlier run" if report.num_resumed else ""
    worst = ", ".join(f"{image} ({score:.3f})" for image, score in report.worst_images)
    classes = ", ".join(f"{name} ({count:,})" for name, count in report.worst_classes)
    rows = {
        "images": f"{report.num_images:,}",
        "pixels": f"{report.num_pixels:,}",
        "label issues": f"{report.num_issues:,} pixels ({issues:.2%})",
        "worst images": worst,
        "worst classes": classes,
        "groups": f"{report.num_groups:,}{resumed}",
        "predictions read": _read(report),
        "seconds": _seconds(report),
        "waited for data": f"{report.read_ratio:.0%} of the time of the tasks that read",
        "peak of a worker": format_bytes(report.peak_bytes),
        "output": report.output,
    }
    if not report.worst_classes:
        del rows["worst classes"]
    if not report.bytes_read:
        del rows["waited for data"]
    if not report.peak_bytes:
        del rows["peak of a worker"]
    return rows | _left_out(report, told)


def _read(report: JobReport) -> str:
    seconds = report.seconds.get("summarize", 0)
    rate = f", {report.bytes_read / seconds / 1e9:.2f} GB/s" if seconds else ""
    return f"{format_bytes(report.bytes_read)}{rate}"


def _seconds(report: JobReport) -> str:
    if not report.seconds:
        return "0"
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())
    return f"{sum(report.seconds.values()):.1f}: {stages}"


def _left_out(report: JobReport, told: Callable[[Advice], str]) -> dict[str, str]:
    """Name the images that were left out, each run of them with its cause."""
    if not report.failures:
        return {}
    count = sum(stop - first for first, stop in (f.images for f in report.failures))
    rows = {"not audited": "1 image" if count == 1 else f"{count:,} images"}
    for failure in report.failures[:SHOWN]:
        first, last = failure.images[0], failure.images[1] - 1
        cause = failure.cause + (f"; {told(failure.advice)}" if failure.advice else "")
        rows[f"  {first:,}" if first == last else f"  {first:,} to {last:,}"] = cause
    if len(report.failures) > SHOWN:
        more = len(report.failures) - SHOWN
        rows["  ..."] = f"and {more:,} more; the output's attribute not_audited has all"
    return rows
