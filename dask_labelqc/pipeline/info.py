"""The plan of a job, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_labelqc.errors import InputError
from dask_labelqc.graph.blocks import GROUP_BYTES, Plan, plan_blocks
from dask_labelqc.method.parameters import Parameters, make_parameters
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import BlockReader, StoreLocation, open_array
from dask_labelqc.storage.class_names import class_names
from dask_labelqc.storage.containers import labels_fill, stored_scale
from dask_labelqc.storage.coordinates import check_dims

__all__ = ["Inputs", "JobPlan", "open_inputs", "plan_audit"]


PROCESS_BYTES = 200 * 2**20
"""Python, Dask, Zarr and the compiled kernels."""


@dataclass(frozen=True)
class Inputs:
    """The opened inputs of a job, its parameters and plan, and what groups were asked for."""

    reader: BlockReader
    params: Parameters
    plan: Plan
    group_bytes: int = GROUP_BYTES


def open_inputs(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    storage_options: Mapping[str, Any] | None = None,
    group_bytes: int = GROUP_BYTES,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    **arguments: Any,
) -> Inputs:
    """Open labels and predictions, check the arguments, and cut the dataset into groups.

    `arguments` are those of `method.parameters.make_parameters`.
    """
    reader = BlockReader.of(
        open_array(labels, "labels", storage_options),
        open_array(pred_probs, "pred_probs", storage_options),
        image_dim=image_dim,
        class_dim=class_dim,
    )
    names = class_names(reader.labels, reader.pred_probs)
    params = make_parameters(
        reader.labels_shape,
        reader.labels.dtype,
        reader.shape,
        reader.pred_probs.dtype,
        fill_labels=labels_fill(reader.labels),
        scale=stored_scale(reader.pred_probs),
        class_names=names,
        **arguments,
    )
    check_dims(reader.dims, reader.lineup.one_scene)
    if group_bytes < 1:
        raise InputError(f"group_bytes: got {group_bytes}, it must be 1 or more")
    plan = plan_blocks(
        params.shape, reader.chunk, params.pixel_bytes, params.factors, group_bytes=group_bytes
    )
    return Inputs(reader, params, plan, group_bytes)


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


def plan_audit(
    labels: StoreLocation,
    pred_probs: StoreLocation,
    *,
    storage_options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> JobPlan:
    """Return what `audit_zarr` with these arguments will read and need; reads only metadata.

    Parameters
    ----------
    labels, pred_probs, storage_options, **arguments
        As in `audit_zarr`.

    Returns
    -------
    JobPlan
        Shapes, chunks, groups, bytes to read, and the memory that a worker needs.
    """
    inputs = open_inputs(labels, pred_probs, storage_options=storage_options, **arguments)
    params, plan = inputs.params, inputs.plan
    return JobPlan(
        shape=inputs.reader.shape,
        dtype=str(params.dtype),
        chunks=inputs.reader.chunk,
        block=plan.block,
        group=plan.group,
        num_groups=plan.num_groups,
        bytes_to_read=math.prod(params.shape) * params.pixel_bytes,
        worker_bytes=worker_bytes(inputs),
        process_bytes=PROCESS_BYTES,
        class_names=tuple(params.naming().get("class_names", ())),
    )


def worker_bytes(inputs: Inputs) -> int:
    """Return what one thread of a worker holds: the memory formula of the docs.

    A block of predictions as it is stored, decoded, gathered and put in order, and as much again
    that the allocator keeps for the threads that decode; from a remote store, each block that is
    read ahead, as it is stored and decoded; and for every pixel of a group its label, its dense
    outputs, and 12 bytes for the mask, the class codes and the candidates (as long as these are not
    more than 15 % of the pixels).
    """
    params, plan = inputs.params, inputs.plan
    block, group = math.prod(plan.block), math.prod(plan.group)
    dense = params.scores * params.probability_dtype.itemsize
    dense += params.predicted * params.class_dtype.itemsize
    pixel = inputs.reader.labels.dtype.itemsize + dense + 12
    blocks = 8 + 2 * inputs.reader.ahead
    return blocks * block * params.pixel_bytes + group * pixel
