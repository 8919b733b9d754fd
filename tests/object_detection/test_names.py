"""A script that imports from cleanlab finds the same names and arguments here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from cleanlab.object_detection import filter as their_filter
from cleanlab.object_detection import rank as their_rank
from cleanlab.object_detection import summary as their_summary

from dask_labelqc import object_detection
from dask_labelqc.object_detection import filter, rank, summary

PAIRS = [(filter, their_filter), (rank, their_rank), (summary, their_summary)]
PUBLIC = [
    pytest.param(getattr(ours, name), function, id=name)
    for ours, theirs in PAIRS
    for name, function in vars(theirs).items()
    if inspect.isfunction(function)
    and function.__module__ == theirs.__name__
    and not name.startswith("_")
]


def test_there_are_names() -> None:
    assert len(PUBLIC) == 16


@pytest.mark.parametrize(("ours", "theirs"), PUBLIC)
def test_arguments_are_cleanlabs(ours: Any, theirs: Any) -> None:
    mine = inspect.signature(ours).parameters
    for position, (name, parameter) in enumerate(inspect.signature(theirs).parameters.items()):
        assert mine[name].kind == parameter.kind
        if parameter.default is not inspect.Parameter.empty:
            assert mine[name].default == parameter.default
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert list(mine)[position] == name


@pytest.mark.parametrize("module", [object_detection, filter, rank, summary])
def test_exported_names_are_documented(module: Any) -> None:
    for name in module.__all__:
        assert (getattr(module, name).__doc__ or "").strip()
