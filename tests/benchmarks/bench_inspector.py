"""What an inspector costs in the loop that predicts, and what its records weigh."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dask_labelqc import SegmentationInspector
from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.summary import ScanOptions, scan_block
from tests.benchmarks.data import draw
from tests.benchmarks.table import Row, medians, print_rows

BOUND = 0.505
DISAGREEING = 0.05
BATCHES = 16
LARGE, SMALL = (8, 21, 512), (256, 5, 64)
"""Images of a batch, classes, and pixels of a side."""


def draw_batch(num_images: int, num_classes: int, size: int) -> tuple[Any, Any]:
    """Return labels and predictions, 5 % of which disagree."""
    labels, pred_probs = draw(num_images, num_classes, size)
    truth, rng = pred_probs.argmax(axis=1), np.random.default_rng(1)
    wrong = rng.random((num_images, size // 8, size // 8)) < DISAGREEING
    other = (truth + 1) % num_classes
    return np.where(wrong.repeat(8, 1).repeat(8, 2), other, truth).astype(labels.dtype), pred_probs


def update_row(shape: tuple[int, int, int], runs: int) -> Row:
    """Compare batches that are put on record with the kernel over them."""
    labels, pred_probs = draw_batch(*shape)
    ids = [f"tile_{i}" for i in range(shape[0])]
    options = ScanOptions(BOUND)

    def kernel() -> None:
        for _ in range(BATCHES):
            scan_block(pred_probs, encode_labels(labels, shape[1]).codes, options)

    with tempfile.TemporaryDirectory() as folder:
        inspector = SegmentationInspector(folder, shape[1])

        def update() -> None:
            for _ in range(BATCHES):
                inspector.update(ids, labels, pred_probs=pred_probs)
            inspector.flush()

        kernel()
        update()
        taken = medians(runs, kernel=kernel, update=update)
    per_pixel = 1e9 * taken["update"] / BATCHES / labels.size
    return Row(
        "update of a batch and its share of a flush / the kernel alone",
        "1.3",
        f"{taken['update'] / taken['kernel']:.2f}",
        f"{shape[0]} images of {shape[2]} x {shape[2]}, K = {shape[1]}, float32, {DISAGREEING:.0%} "
        f"disagree, {BATCHES} batches a flush; {per_pixel:.1f} ns a pixel, medians of {runs}",
    )


def size_row(shape: tuple[int, int, int]) -> Row:
    """Weigh records."""
    labels, pred_probs = draw_batch(*shape)
    share = np.count_nonzero(pred_probs.argmax(axis=1) != labels) / labels.size
    with tempfile.TemporaryDirectory() as folder:
        with SegmentationInspector(folder, shape[1]) as inspector:
            ids = [f"tile_{i}" for i in range(shape[0])]
            inspector.update(ids, labels, pred_probs=pred_probs)
        size = sum(entry.stat().st_size for entry in os.scandir(Path(folder) / "records"))
    return Row(
        "bytes on record for each pixel",
        "0.6",
        f"{size / labels.size:.2f}",
        f"{share:.1%} of the pixels disagree, K = {shape[1]}, {shape[2]} x {shape[2]}; float32 "
        f"predictions take {4 * shape[1]}",
    )


def loop_row(runs: int) -> Row:
    """Compare a loop that predicts with and without an inspector."""
    what = "training of a small U-Net with an inspector / without"
    if find_spec("torch") is None:
        return Row(what, "1.05", "not measured", "torch is not installed")
    import torch
    from torch.nn.functional import cross_entropy

    model, images = _small_u_net(), torch.randn(4, 3, 128, 128)
    with torch.no_grad():
        predicted = model(images).argmax(dim=1)
    wrong = torch.rand(4, 16, 16).repeat_interleave(8, 1).repeat_interleave(8, 2) < DISAGREEING
    labels = torch.where(wrong, (predicted + 1) % 21, predicted)
    ids = [f"tile_{i}" for i in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # each batch disagrees as much

    def train(see: Callable[[Any], None]) -> None:
        for _ in range(4):
            logits = model(images)
            see(logits)
            optimizer.zero_grad()
            cross_entropy(logits, labels).backward()
            optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        inspector = SegmentationInspector(folder, 21)

        def inspected() -> None:
            train(lambda logits: inspector.update(ids, labels, logits=logits))
            inspector.flush()

        inspected()
        taken = medians(runs, without=lambda: train(lambda _: None), inspected=inspected)
    return Row(
        what,
        "1.05",
        f"{taken['inspected'] / taken['without']:.3f}",
        f"4 images of 128 x 128, K = 21, {DISAGREEING:.0%} disagree; forward, loss, backward and "
        f"step on the CPU, {taken['without'] / 4:.2f} s a batch, medians of {runs}",
    )


def _small_u_net() -> Any:
    """Return a U-Net of three levels, of random weights."""
    from torch import nn

    def block(before: int, after: int) -> nn.Sequential:
        layers = [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(after, after, 3, padding=1), nn.ReLU())

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([block(3, 32), block(32, 64), block(64, 128)])
            self.up = nn.ModuleList([block(192, 64), block(96, 32)])
            self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
            self.head = nn.Conv2d(32, 21, 1)

        def forward(self, images: Any) -> Any:
            import torch

            first = self.down[0](images)
            second = self.down[1](self.pool(first))
            third = self.down[2](self.pool(second))
            second = self.up[0](torch.cat([self.grow(third), second], dim=1))
            return self.head(self.up[1](torch.cat([self.grow(second), first], dim=1)))

    return UNet().eval()


def rows(runs: int = 5) -> list[Row]:
    return [
        update_row(LARGE, runs),
        update_row(SMALL, runs),
        size_row(LARGE),
        size_row(SMALL),
        loop_row(runs),
    ]


if __name__ == "__main__":
    print_rows(rows(), "inspector")
