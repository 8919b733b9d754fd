"""What a job will read and need, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask.utils import format_bytes

from dask_labelqc.pipeline.fit import check_shape

__all__ = ["BoxPlan", "ExamplePlan", "JobPlan", "RaggedPlan"]

CLASSES_SHOWN = 20


@dataclass(frozen=True)
class JobPlan:
    r"""What a job will read and need.

    Attributes
    ----------
    shape
        (N, K, \*spatial).
    dtype
        Of the predictions.
    chunks
        Storage chunks of the predictions along (N, \*spatial).
    block, group
        What is decoded at a time, and what one task goes through, along the same axes.
    num_groups
        Tasks of each stage.
    bytes_to_read
        Predictions, decoded.
    worker_bytes
        Memory that each thread of a worker needs.
    process_bytes
        Memory of a worker process that does nothing yet.
    class_names
        Of the K classes, if the dataset has any.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    block: tuple[int, ...]
    group: tuple[int, ...]
    num_groups: int
    bytes_to_read: int
    worker_bytes: int
    process_bytes: int
    class_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError if the results of the images alone would not fit into this process."""
        check_shape(self.shape, self.num_groups)

    def summary(self) -> dict[str, str]:
        """Return the plan as text by name; the command line prints it."""
        images, classes, *spatial = self.shape
        return {
            "images": f"{images:,} of {_times(spatial)} pixels",
            "classes": _classes(classes, self.class_names),
            "pred_probs": f"{self.dtype}, chunks of {_times(self.chunks)} pixels",
            "read at a time": f"{_times(self.block)} pixels",
            "groups": f"{self.num_groups:,} of {_times(self.group)} pixels",
            "bytes to read": format_bytes(self.bytes_to_read),
            "memory of a worker": _memory(self.process_bytes, self.worker_bytes),
        }


@dataclass(frozen=True)
class RaggedPlan:
    """What a job on images of every size will read and need.

    Attributes
    ----------
    num_images, num_pixels, num_classes
        Images, all their pixels, and K.
    smallest, largest
        Sides of the images with the fewest and the most pixels.
    dtype
        Of the predictions.
    group
        Pixels that one task goes through, about.
    num_groups
        Tasks of each stage.
    bytes_to_read
        Predictions, decoded.
    worker_bytes
        Memory that each thread of a worker needs.
    process_bytes
        Memory of a worker process that does nothing yet.
    class_names
        Of the K classes, if the dataset has any.
    """

    num_images: int
    num_pixels: int
    num_classes: int
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    dtype: str
    group: int
    num_groups: int
    bytes_to_read: int
    worker_bytes: int
    process_bytes: int
    class_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError if the results of the images alone would not fit into this process."""
        shape = (self.num_images, self.num_classes, self.num_pixels)
        check_shape(shape, self.num_groups)

    def summary(self) -> dict[str, str]:
        """Return the plan as text by name; the command line prints it."""
        return {
            "images": f"{self.num_images:,} of {_times(self.smallest)} to {_times(self.largest)} "
            "pixels",
            "pixels": f"{self.num_pixels:,}",
            "classes": _classes(self.num_classes, self.class_names),
            "pred_probs": self.dtype,
            "groups": f"{self.num_groups:,} of {self.group:,} pixels",
            "bytes to read": format_bytes(self.bytes_to_read),
            "memory of a worker": _memory(self.process_bytes, self.worker_bytes),
        }


@dataclass(frozen=True)
class ExamplePlan:
    """What a job on examples will read and need.

    Attributes
    ----------
    num_examples, num_classes
        N and K.
    dtype
        Of the predictions.
    chunk, block, group
        Examples of a storage chunk, of what is decoded at a time, and of what a task goes through.
    num_groups
        Tasks of each stage.
    bytes_to_read
        Predictions, decoded, in one read.
    worker_bytes
        Memory that each thread of a worker needs.
    process_bytes
        Memory of a worker process that does nothing yet.
    class_names
        Of the classes, if the dataset has any.
    """

    num_examples: int
    num_classes: int
    dtype: str
    chunk: int
    block: int
    group: int
    num_groups: int
    bytes_to_read: int
    worker_bytes: int
    process_bytes: int
    class_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError if the results of the examples would not fit into this process."""
        check_shape((self.num_examples, self.num_classes), self.num_groups)

    def summary(self) -> dict[str, str]:
        """Return the plan as text by name; the command line prints it."""
        return {
            "examples": f"{self.num_examples:,}",
            "classes": _classes(self.num_classes, self.class_names),
            "pred_probs": f"{self.dtype}, chunks of {self.chunk:,} examples",
            "read at a time": f"{self.block:,} examples",
            "groups": f"{self.num_groups:,} of {self.group:,} examples",
            "bytes to read": format_bytes(self.bytes_to_read),
            "memory of a worker": _memory(self.process_bytes, self.worker_bytes),
        }


@dataclass(frozen=True)
class BoxPlan:
    """What a job on boxes will read and need.

    Attributes
    ----------
    num_images, num_given, num_predicted
        Images, given and predicted boxes.
    num_classes
        K.
    num_groups
        Tasks of each stage.
    bytes_to_read
        All columns, decoded; they are read twice.
    worker_bytes
        Memory that each thread of a worker needs.
    process_bytes
        Memory of a worker process that does nothing yet.
    class_names
        Of the classes, if the dataset has any.
    """

    num_images: int
    num_given: int
    num_predicted: int
    num_classes: int
    num_groups: int
    bytes_to_read: int
    worker_bytes: int
    process_bytes: int
    class_names: tuple[str, ...] = ()

    def check(self) -> None:
        """Do nothing: what is kept of each image has been read for the plan."""

    def summary(self) -> dict[str, str]:
        """Return the plan as text by name; the command line prints it."""
        return {
            "images": f"{self.num_images:,}",
            "boxes": f"{self.num_given:,} given, {self.num_predicted:,} predicted",
            "classes": _classes(self.num_classes, self.class_names),
            "groups": f"{self.num_groups:,}",
            "bytes to read": f"{format_bytes(self.bytes_to_read)}, twice",
            "memory of a worker": _memory(self.process_bytes, self.worker_bytes),
        }


def _classes(count: int, names: tuple[str, ...]) -> str:
    more = ", ..." if count > CLASSES_SHOWN else ""
    return f"{count:,}" + (f": {', '.join(names[:CLASSES_SHOWN])}{more}" if names else "")


def _times(shape: Sequence[int]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _memory(process_bytes: int, worker_bytes: int) -> str:
    each = format_bytes(worker_bytes)
    return f"{format_bytes(process_bytes)}, and {each} for each of its threads"
