"""Processes that die in the middle of a job, for real: every byte is as if none had."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from dask_labelqc.errors import BlockError, ClusterError, InputError
from dask_labelqc.segmentation.summary import common_label_issues
from tests import reference
from tests.clusters import Processes, is_busy, processes, wait_for
from tests.pipeline.damage import broken, mend, spoil
from tests.pipeline.datasets import Stored, audit, check, files, write, write_case
from tests.pipeline.killing import count_records, kill_all, paths, start
from tests.pipeline.progress import At, Stop
from tests.strategies import Case, make_case

pytestmark = pytest.mark.usefixtures("smallest_groups")
DENSE = {"write_pixel_scores": True, "write_predicted_label": True}
CASE = make_case(110, (100, 4, 6), 3)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with processes(tmp_path / "cluster") as started:
        yield started


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return write_case(tmp_path_factory.mktemp("dataset") / "in", CASE)


@pytest.fixture(scope="module")
def whole(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The output of a job that nothing happened to, with groups as small as in the others."""
    from dask_labelqc import plan as blocks

    output = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 1)
        audit(stored, output, **DENSE)
    check(output, CASE)
    return files(output)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_every_worker_dies_and_new_ones_join(
    number: signal.Signals, cluster: Processes, stored: Stored, whole: dict, tmp_path: Path
) -> None:
    """SIGTERM is what pre-emption sends: workers leave by themselves."""
    cluster.add_workers(2)

    def replace() -> None:
        cluster.signal_workers(number)
        cluster.add_workers(2)

    with cluster.client() as client:
        audit(stored, tmp_path / "out", client=client, progress=At(40, replace), **DENSE)
    assert files(tmp_path / "out") == whole


def test_scheduler_and_client_are_killed(
    cluster: Processes, stored: Stored, whole: dict, tmp_path: Path
) -> None:
    """The same command again, with another scheduler, goes on from what is on record."""
    output = tmp_path / "out"
    cluster.add_workers(2)
    run = {**paths(stored), **DENSE, "output": str(output), "resume": True}
    with start({**run, "scheduler": cluster.address}) as process:
        wait_for(lambda: count_records(output) > 20)
        cluster.kill_scheduler()
        kill_all(process)
    had = count_records(output)
    assert 20 < had < 100
    cluster.signal_workers(signal.SIGKILL)
    cluster.start_scheduler()
    cluster.add_workers(2)
    with cluster.client() as client:
        report = audit(stored, output, client=client, resume=True, **DENSE)
    assert report.num_resumed >= had - 4  # those that were being written
    assert report.bytes_read == (100 - report.num_resumed) * 4 * 6 * 3 * 4
    assert files(output) == whole


def test_the_scheduler_dies(
    cluster: Processes, stored: Stored, whole: dict, tmp_path: Path
) -> None:
    """The job ends with an error, and goes on elsewhere."""
    cluster.add_workers(2)
    kill = At(40, cluster.kill_scheduler)
    with (
        cluster.client() as client,
        pytest.raises(ClusterError, match=r"the scheduler at tcp://.* is gone"),
    ):
        audit(stored, tmp_path / "out", client=client, progress=kill)
    audit(stored, tmp_path / "out", resume=True)
    audit(stored, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


GREEDY = """
import os, time
from dask_labelqc.storage.arrays import BlockReader

def greedy(self, region, *more, read=BlockReader.for_region):
    if region.start[0] == 60:
        try:
            os.close(os.open({marker!r}, os.O_CREAT | os.O_EXCL))
            hoard = []
            for _ in range(100):
                hoard.append(bytearray(b"x") * 2**25)
                time.sleep(0.02)
            time.sleep(30)
        except FileExistsError:
            pass
    return read(self, region, *more)

BlockReader.for_region = greedy
"""


def test_a_worker_exceeds_its_memory_once(
    cluster: Processes, stored: Stored, whole: dict, tmp_path: Path
) -> None:
    """Its nanny kills it, and the group is done by the next one."""
    marker, preload = tmp_path / "marker", tmp_path / "greedy.py"
    preload.write_text(GREEDY.format(marker=str(marker)))
    cluster.add_workers(2, "--memory-limit", "700MB", "--preload", str(preload), nanny=True)
    with cluster.client() as client:
        audit(stored, tmp_path / "out", client=client, **DENSE)
    assert marker.exists()
    assert "exceeded 95% memory budget" in cluster.logs()
    assert files(tmp_path / "out") == whole


def test_nothing_is_written_after_an_error(cluster: Processes, tmp_path: Path) -> None:
    """The job ends when its last task has, and then the output may be another job's."""
    cluster.add_workers(2, "--nthreads", "4")
    case = make_case(115, (60, 4, 6), 3)
    labels = case.labels.copy()
    labels[3] = 9
    stored, output = write(tmp_path / "in", labels, case.pred_probs), tmp_path / "out"
    with cluster.client() as client:
        with pytest.raises(InputError, match="the first is 9 at image 3"):
            audit(stored, output, client=client)
        had = files(output)
        assert not is_busy(client)
    assert files(output) == had


# What is lost of the output itself


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
@pytest.mark.parametrize("name", ["pixel_scores", "predicted_label"])
def test_a_chunk_of_the_output_is_damaged_before_the_restart(
    damage: str, name: str, stored: Stored, whole: dict, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        audit(stored, output, progress=Stop(None, 60), **DENSE)
    chunks = sorted(p for p in (output / name).rglob("*") if p.is_file() and p.stem.isdigit())
    chunk = chunks[len(chunks) // 2]
    data = chunk.read_bytes()
    if damage == "delete":
        chunk.unlink()
    elif damage == "truncate":
        chunk.write_bytes(data[: len(data) // 2])
    else:
        chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    had = count_records(output)
    report = audit(stored, output, resume=True, **DENSE)
    assert report.num_resumed == had - 1
    assert files(output) == whole


# Blocks that fail for good


def test_a_block_fails_three_times(cluster: Processes, tmp_path: Path) -> None:
    """On different workers; the job says which images, where and why, and can be resumed."""
    cluster.add_workers(3)
    case = make_case(111, (12, 4, 6), 3)
    stored, chunk = broken(tmp_path / "in", case, 7)
    with cluster.client() as client:
        workers = set(client.nthreads())
        with pytest.raises(BlockError, match="image 7 failed 3 times on tcp") as raised:
            audit(stored, tmp_path / "out", client=client)
        assert all(address in str(raised.value) for address in workers)
        assert "OSError" in str(raised.value)
        mend(chunk)
        audit(stored, tmp_path / "out", client=client, resume=True)
    check(tmp_path / "out", case)


@pytest.mark.parametrize("chunks", [(1, 3, 4, 6), (2, 3, 2, 3)], ids=["an image", "parts of two"])
def test_keep_going(chunks: tuple, tmp_path: Path) -> None:
    """What cannot be read is left out with its images; the rest is as if they were not there."""
    case = make_case(112, (12, 4, 6), 3)
    image = 7 // chunks[0]
    lost = list(range(image * chunks[0], (image + 1) * chunks[0]))
    stored, chunk = broken(tmp_path / "in", case, image, chunks=chunks)
    report = audit(stored, tmp_path / "out", keep_going=True)
    assert [f.images for f in report.failures] == [(lost[0], lost[-1] + 1)]
    assert "OSError" in report.failures[0].cause
    found = report.open().load()
    assert found.attrs["status"] == "partial"
    assert found.attrs["not_audited"] == lost
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "out").load(), found)
    table = common_label_issues(tmp_path / "out", verbose=False)
    assert table.num_pixel_issues.sum() == found.attrs["num_issues"]
    kept_images = np.delete(np.arange(12), lost)
    expected = reference.audit(case.labels[kept_images], case.pred_probs[kept_images])
    np.testing.assert_array_equal(found.confident_threshold, expected.confident_threshold)
    np.testing.assert_array_equal(found.label_issues[kept_images], expected.label_issues)
    assert not found.label_issues[lost].any()
    for name in ("image_score", "image_issue_fraction"):
        assert np.isnan(found[name][lost]).all()
        assert not np.isnan(found[name][kept_images]).any()
    assert found.attrs["num_issues"] == expected.label_issues.sum()

    mend(chunk)
    whole = audit(stored, tmp_path / "out", resume=True)
    assert whole.failures == ()
    check(tmp_path / "out", case)
    audit(stored, tmp_path / "undisturbed")
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_keep_going_past_labels_that_cannot_be(tmp_path: Path) -> None:
    case = make_case(113, (6, 4, 6), 3)
    labels = case.labels.copy()
    labels[4, 1, 2] = 9
    stored = write(tmp_path / "in", labels, case.pred_probs)
    report = audit(stored, tmp_path / "out", keep_going=True)
    (failure,) = report.failures
    assert failure.images == (4, 5)
    assert "the first is 9 at image 4, pixel" in failure.cause
    assert report.open().attrs["not_audited"] == [4]


def test_nothing_is_left(tmp_path: Path) -> None:
    case = make_case(114, (3, 4, 6), 3)
    stored = write(tmp_path / "in", np.full_like(case.labels, 9), case.pred_probs)
    with pytest.raises(BlockError, match="no image could be audited: labels: "):
        audit(stored, tmp_path / "out", keep_going=True)
    with pytest.raises(InputError, match=r"the first is 9 at image ., pixel"):
        audit(stored, tmp_path / "out", resume=True)


def test_the_second_read_does_not_keep_going(tmp_path: Path) -> None:
    """The thresholds hold the sums of the images that would be left out."""
    rng = np.random.default_rng(0)
    probs = rng.integers(1, 1024, (3, 3, 4, 4)) / np.float32(1024)
    case = Case(rng.integers(0, 3, (3, 4, 4)), probs)
    stored = write(tmp_path / "in", case.labels, case.pred_probs)
    chunk = stored.pred_probs / "c/1/0/0/0"

    damaging = At(0, lambda: spoil(chunk), "count")
    with pytest.raises(BlockError, match="image 1 failed 3 times: OSError"):
        audit(stored, tmp_path / "out", validate="labels", keep_going=True, progress=damaging)
    mend(chunk)
    audit(stored, tmp_path / "out", validate="labels", resume=True)
    check(tmp_path / "out", case)
