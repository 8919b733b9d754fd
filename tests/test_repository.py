"""What the repository says of itself, in several files, is one and the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
PYTHONS = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in loaded(workflow)["jobs"].values() for step in job["steps"]]


def values(tree: Any, key: str) -> list[Any]:
    """All values of a key, however deep it lies."""
    if isinstance(tree, list):
        return [found for item in tree for found in values(item, key)]
    if not isinstance(tree, dict):
        return []
    return [*([tree[key]] if key in tree else []), *values([*tree.values()], key)]


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts if not text.startswith(project["name"])]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pythons_agree() -> None:
    """Those of the classifiers may install it, those before may not, and CI tests them all."""
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    minors = [int(version.split(".")[1]) for version in PYTHONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert all(version in allowed for version in PYTHONS)
    assert f"3.{minors[0] - 1}" not in allowed
    matrix = loaded(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    oldest = f"py{PYTHONS[0].replace('.', '')}"
    assert PROJECT["tool"]["ruff"]["target-version"] == oldest


def test_the_citation_is_of_this_version() -> None:
    project, citation = PROJECT["project"], loaded(ROOT / "CITATION.cff")
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


def test_every_target_is_described() -> None:
    described = set(re.findall(r'@echo "make ([a-z-]+)', MAKEFILE))
    assert described <= TARGETS
    parts = {"lint", "types", "files"}  # of `make check`
    assert TARGETS - described == parts | {"help", "setup", "clean"}
    phony = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(" ".join(phony).split()) == TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_hosted_ci_runs_what_people_run(path: Path) -> None:
    """Nothing but targets of the Makefile, and only actions whose very commit is named."""
    for step in steps(path):
        assert len({"run", "uses"} & set(step)) == 1
        if "run" in step:
            assert re.fullmatch(r'make ("\$TARGET"|[a-z-]+)( [A-Z]+=\S+)*', step["run"])
        else:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"])
    run = " ".join(step["run"] for step in steps(path) if "run" in step)
    matrices = [target for targets in values(loaded(path), "target") for target in targets]
    named = {*re.findall(r"make ([a-z-]+)", run), *matrices}
    assert named
    assert named <= TARGETS


def test_hooks_run_targets() -> None:
    entries = values(loaded(ROOT / ".pre-commit-config.yaml"), "entry")
    assert entries
    assert {entry.removeprefix("make ") for entry in entries} <= TARGETS


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md", ".ci/run"])
def test_what_is_written_of_targets_is_true(name: str) -> None:
    text = (ROOT / name).read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= TARGETS


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonical(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    for requirement in requirements():
        assert pins[canonical(requirement.name)] in requirement.specifier, requirement


def test_the_changelog_has_this_version_or_none_yet() -> None:
    """What a release has is below its number, what comes next below "Unreleased"."""
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert all(date for _, date in headings[1:])
    assert [number for number, _ in headings[1:2]] in ([], [PROJECT["project"]["version"]])
