"""A few of the pairs and freezes that `make one-writer` runs many of."""

from __future__ import annotations

import sys

from tests import forks


def run(**counts: int) -> str:
    options = [f"--{name}={counts.get(name, 0)}" for name in ("local", "s3", "freezes")]
    ran = forks.run(sys.executable, "-m", "tests.pipeline.one_writer", *options)
    assert ran.status == 0, ran.out + ran.err
    return ran.out


def test_one_of_two_that_start_at_the_same_instant() -> None:
    assert "pairs on disk: 4 of 4" in run(local=4)


def test_one_of_two_on_an_object_store() -> None:
    assert "pairs on S3: 2 of 2" in run(s3=2)


def test_what_wakes_up_writes_nothing() -> None:
    said = run(freezes=2)
    for what in ("jobs", "workers"):
        for stage in ("summarize", "paint"):
            assert f"{what} frozen in {stage}: 2 of 2" in said
