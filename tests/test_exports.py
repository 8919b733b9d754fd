"""What is public is listed, and stands where cleanlab has it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from types import ModuleType

import pytest

import dask_labelqc
from dask_labelqc import errors


def all_modules() -> list[str]:
    found = pkgutil.walk_packages(dask_labelqc.__path__, "dask_labelqc.")
    return ["dask_labelqc", *(m.name for m in found)]


MODULES = all_modules()
PACKAGES = [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")]


@pytest.mark.parametrize("name", MODULES)
def test_every_listed_name_exists_and_is_listed_once(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert len(set(listed)) == len(listed)
    for public in listed:
        assert hasattr(module, public), public


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_lists_what_it_shows(name: str) -> None:
    package = importlib.import_module(name)
    listed = set(getattr(package, "__all__", []))
    modules = {key for key in listed if isinstance(getattr(package, key), ModuleType)}
    visible = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_") and not isinstance(value, ModuleType) and key != "annotations"
    }
    assert visible == listed - modules


@pytest.mark.parametrize("name", [n for n in MODULES if n not in PACKAGES])
def test_a_module_lists_its_public_functions_and_classes(name: str) -> None:
    module = importlib.import_module(name)
    defined = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == name
    }
    listed = set(getattr(module, "__all__", ()))
    assert listed, f"{name} has no __all__"
    assert listed & defined or not defined


COUNTERPARTS = [
    ("segmentation.filter", "find_label_issues"),
    ("segmentation.rank", "get_label_quality_scores"),
    ("segmentation.rank", "issues_from_scores"),
    ("object_detection.filter", "find_label_issues"),
    ("object_detection.rank", "get_label_quality_scores"),
    ("object_detection.rank", "issues_from_scores"),
    ("experimental.label_issues_batched", "find_label_issues_batched"),
]


@pytest.mark.parametrize(("module", "name"), COUNTERPARTS)
def test_stands_where_cleanlab_has_it_and_takes_its_arguments(module: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(importlib.import_module(f"cleanlab.{module}"), name)
    ours = getattr(importlib.import_module(f"dask_labelqc.{module}"), name)
    wanted, accepted = inspect.signature(theirs).parameters, inspect.signature(ours).parameters
    named = {n: p for n, p in wanted.items() if p.kind is not p.VAR_KEYWORD}
    assert set(named) <= set(accepted)
    assert [n for n, p in named.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        n for n, p in accepted.items() if p.kind is p.POSITIONAL_OR_KEYWORD
    ][: len([p for p in named.values() if p.kind is p.POSITIONAL_OR_KEYWORD])]


def test_segmentation_shows_its_functions() -> None:
    from dask_labelqc import segmentation

    assert segmentation.find_label_issues is segmentation.filter.find_label_issues
    assert segmentation.issues_from_scores is segmentation.rank.issues_from_scores


def test_every_error_is_public_and_of_one_family() -> None:
    raised = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert {errors.BlockError, errors.ClusterError, errors.StoreError} < {*raised}
    for kind in raised:
        assert issubclass(kind, dask_labelqc.LabelQCError)
        assert getattr(dask_labelqc, kind.__name__) is kind
        assert kind.__name__ in dask_labelqc.__all__
