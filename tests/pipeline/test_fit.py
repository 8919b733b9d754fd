"""The memory formula against the memory there is, before any work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from dask.utils import format_bytes
from distributed import Client

from dask_labelqc.errors import InputError, OutputError
from dask_labelqc.method.parameters import Options
from dask_labelqc.pipeline import fit as fitting
from dask_labelqc.pipeline.fit import Kind, fit, threads_that_fit
from dask_labelqc.pipeline.images import ImageInputs as Inputs
from dask_labelqc.pipeline.images import open_images, worker_bytes
from dask_labelqc.pipeline.inputs import PROCESS_BYTES
from dask_labelqc.storage import ahead, arrays
from tests.clusters import local_cluster
from tests.pipeline.datasets import Stored, audit, check, files, write_case
from tests.strategies import make_case

MB = 10**6
GROUP_BYTES = 320 * 2**20


def claimed(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Stored:
    """Arrays of any size, of which only the metadata are there."""
    group = zarr.open_group(path, mode="w")
    for name, dims, dtype in (
        ("labels", (0, *range(2, len(shape))), "u1"),
        ("pred_probs", range(len(shape)), "f4"),
    ):
        group.create_array(
            name, shape=[shape[i] for i in dims], chunks=[chunks[i] for i in dims], dtype=dtype
        )
    return Stored(path / "labels", path / "pred_probs")


def inputs_of(stored: Stored, **arguments: Any) -> Inputs:
    return open_images(*stored, Options.of(), **arguments)


@pytest.fixture
def usual(tmp_path: Path) -> Inputs:
    return inputs_of(claimed(tmp_path / "in", (1000, 21, 512, 512), (1, 21, 512, 512)))


def needed(inputs: Inputs, threads: int = 1) -> int:
    return PROCESS_BYTES + threads * worker_bytes(inputs)


def test_what_fits_is_left_as_it_is(usual: Inputs, caplog: pytest.LogCaptureFixture) -> None:
    kinds = [Kind(2, 1, needed(usual)), Kind(1, 4, needed(usual, 4))]
    assert fit(usual, kinds) is usual
    assert not caplog.messages


def test_smaller_groups(usual: Inputs, caplog: pytest.LogCaptureFixture) -> None:
    smaller = fit(usual, [Kind(2, 1, needed(usual) - 1)])
    assert usual.plan.group == (15, 512, 512)
    assert smaller.plan.group == (7, 512, 512)
    assert smaller.plan.block == usual.plan.block
    (line,) = caplog.messages
    assert line.startswith(
        "groups of 7 x 512 x 512 instead of 15 x 512 x 512, to fit into 2 workers of 1 thread with "
    )
    assert line.endswith(f"MiB are needed instead of {format_bytes(needed(usual))}")


def test_each_kind_of_worker_counts(usual: Inputs) -> None:
    """Threads share the limit of their process."""
    large, small = Kind(7, 1, 10**10), Kind(1, 8, needed(usual, 8) - 1)
    assert fit(usual, [large, small]).plan.group < usual.plan.group


def test_less_is_read_ahead(
    usual: Inputs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrays, "reads_ahead", lambda store: ahead.AHEAD)  # as if it were remote
    assert usual.reader.ahead == 3
    fitted = fit(usual, [Kind(1, 1, needed(usual) - 1)])
    assert fitted.reader.ahead == 2
    assert fitted.plan == usual.plan
    assert "2 instead of 3 blocks read ahead, to fit into 1 worker of 1 thread" in caplog.text
    least = fit(usual, [Kind(1, 1, needed(usual) - 140 * MB)])
    assert least.reader.ahead < 2
    assert needed(least) <= needed(usual) - 140 * MB


def test_what_cannot_fit(tmp_path: Path) -> None:
    """A chunk of 600 MB on workers of 1 GB."""
    shape = (4, 21, 2673, 2673)
    stored = claimed(tmp_path / "in", shape, (1, *shape[1:]))
    message = re.escape(
        "client: 2 workers of 1 thread with a limit of 0.93 GiB cannot work on chunks of "
        "pred_probs of 1 x 21 x 2673 x 2673 float32 (572.37 MiB): blocks of 1 x 21 x 2673 x 2673 "
        "need 4.75 GiB, which is 200.00 MiB and 4.56 GiB for each thread; give each worker "
        "memory_limit='4.75 GiB' or more, or fewer threads, or store the predictions in smaller "
        "chunks"
    )
    with pytest.raises(InputError, match=message):
        fit(inputs_of(stored), [Kind(3, 2, 64 * 10**9), Kind(2, 1, 10**9)])


def test_threads_of_this_process(usual: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MEMORY_LIMIT", needed(usual, 5) - 1)
    monkeypatch.setattr(fitting.os, "cpu_count", lambda: 32)
    assert threads_that_fit(usual, 4) == (usual, 4)
    assert threads_that_fit(usual, None) == (usual, 4)
    fitted, threads = threads_that_fit(usual, 5)
    assert threads == 5
    assert fitted.plan.group < usual.plan.group
    message = "n_jobs: this process, 32 threads on a machine of .*, cannot work on .*; use fewer "
    with pytest.raises(InputError, match=message):
        threads_that_fit(usual, 32)


# The job


@contextmanager
def workers(limit: int | float) -> Iterator[Client]:
    with local_cluster(memory_limit=limit) as client:
        yield client


CASE = make_case(130, (12, 64, 96), 4)
WHOLE = {"group_bytes": GROUP_BYTES}


def test_a_job_with_smaller_groups_is_finished_with_them_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that was begun with larger ones keeps those."""
    stored = write_case(tmp_path / "in", CASE)
    inputs = inputs_of(stored)
    assert inputs.plan.group[0] == 12
    small, large = tmp_path / "small", tmp_path / "large"
    # As if a process took all but what is needed for a block and a part of the group.
    monkeypatch.setattr(fitting, "PROCESS_BYTES", 10**9 - worker_bytes(inputs) + 1)
    monkeypatch.setattr(fitting, "MEMORY_LIMIT", 2 * 10**9)
    with workers(10**9) as client:
        audit(stored, small, client=client, **WHOLE)
        assert zarr.open_array(small / "label_issues").chunks[0] < 12
        assert "to fit into 1 worker" in caplog.text
        audit(stored, large, n_jobs=1, **WHOLE)
        assert zarr.open_array(large / "label_issues").chunks[0] == 12
        expected = files(small)
        for output in (small, large):
            zarr.open_group(output).attrs["status"] = "unfinished"
        message = "the groups of this unfinished output, 12 x 64 x 96, are kept, overwrite=True"
        with pytest.raises(InputError, match=message):
            audit(stored, large, client=client, resume=True, **WHOLE)
    audit(stored, small, resume=True, n_jobs=1, **WHOLE)
    assert files(small).keys() == expected.keys()
    assert zarr.open_array(small / "label_issues").chunks[0] < 12
    check(small, CASE)
    with pytest.raises(OutputError, match="group_bytes was "):
        audit(stored, large, resume=True, n_jobs=1, group_bytes=2**12)


def test_nothing_is_made_where_nothing_fits(tmp_path: Path) -> None:
    shape = (2, 21, 2673, 2673)
    stored = claimed(tmp_path / "in", shape, (1, *shape[1:]))
    with workers(10**9) as client, pytest.raises(InputError, match="cannot work on chunks"):
        audit(stored, tmp_path / "out", client=client)
    assert not (tmp_path / "out").exists()


# Shapes that only metadata can have


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((10**12, 3, 8, 8), "images"),
        ((1, 3, 10**9, 10**9), "groups"),
        ((10, 10**8, 8, 8), "pairs of classes"),
    ],
)
def test_shapes_beyond_all_memory(shape: tuple[int, ...], what: str, tmp_path: Path) -> None:
    stored = claimed(tmp_path / "in", shape, (1, 3, 8, 8))
    with pytest.raises(InputError) as raised:
        audit(stored, tmp_path / "out", **WHOLE)
    message = str(raised.value)
    assert (
        f"pred_probs: by its metadata its shape is {shape}; what is kept of the {what} " in message
    )
    assert "B, and this machine has " in message
    assert not (tmp_path / "out").exists()


def test_the_most_that_is_taken_apart(usual: Inputs) -> None:
    assert replace(usual.reader, most_ahead=0).ahead == 0
    assert np.prod(usual.plan.grid) == 67
