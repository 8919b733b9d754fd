"""An error says what to do in the language of its front, and what it says leads on."""

from __future__ import annotations

import ast
import pickle
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result

import dask_labelqc.errors as errors
from dask_labelqc.cli import labelqc
from dask_labelqc.errors import InputError, LabelQCError, advise
from dask_labelqc.pipeline import audit_zarr
from tests.package import MODULES, named
from tests.pipeline.datasets import Stored, files, write
from tests.strategies import make_case

CASE = make_case(103, (6, 8, 12), 4)
VOID = CASE.labels.astype("i2")
VOID[:, :2] = 255
TWO_VOIDS = VOID.copy()
TWO_VOIDS[:, 3] = -1
LATE_VOID = CASE.labels.astype("i2")
LATE_VOID[5, 1, 2] = 255
LOGITS = np.log(CASE.pred_probs + np.float32(1e-6))
OPTION = r"--[a-z-]+(?: (?![a-z])[^ ;,]+)?"


def invoke(stored: Stored, out: Path, *options: str) -> Result:
    command = ["audit", *map(str, stored), str(out), "--workers=0", "--quiet", *options]
    return CliRunner().invoke(labelqc, command)


def advised(result: Result) -> list[str]:
    """The options that an error advises, of its first way on."""
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: .*\n", result.stderr)
    way_on = result.stderr.rstrip().partition("; ")[2].split(", ")[0]
    return [part for found in re.findall(OPTION, way_on) for part in shlex.split(found)]


def follow(stored: Stored, out: Path, *options: str) -> list[list[str]]:
    """Do what errors say until there are none; return what each said."""
    said: list[list[str]] = []
    used = list(options)
    for _ in range(4):
        result = invoke(stored, out, *used)
        if result.exit_code == 0:
            return said
        said.append(advised(result))
        assert said[-1], result.stderr
        used += said[-1]
    raise AssertionError(f"the advice leads nowhere: {said}")


@pytest.mark.parametrize(
    ("labels", "pred_probs", "said"),
    [
        (VOID, CASE.pred_probs, [["--ignore-index", "255"]]),
        (
            TWO_VOIDS,
            CASE.pred_probs,
            [["--ignore-index", "255"], ["--ignore-index", "-1", "--ignore-index", "255"]],
        ),
        (CASE.labels, LOGITS, [["--from-logits"]]),
        (VOID, LOGITS, [["--ignore-index", "255"], ["--from-logits"]]),
    ],
    ids=["255", "255 and -1", "logits", "255 and logits"],
)
def test_a_first_audit_with_mistakes(
    labels: np.ndarray, pred_probs: np.ndarray, said: list[list[str]], tmp_path: Path
) -> None:
    """Every failure leaves nothing behind, so that the next command need not know of it."""
    stored, out = write(tmp_path / "in", labels, pred_probs), tmp_path / "out"
    options: list[str] = []
    for advice in said:
        result = invoke(stored, out, *options)
        assert advised(result) == advice
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
        options += advice
    assert invoke(stored, out, *options).exit_code == 0
    assert follow(stored, tmp_path / "again") == said


@pytest.mark.parametrize(
    ("labels", "pred_probs", "steps"),
    [
        (TWO_VOIDS, CASE.pred_probs, [{"ignore_index": 255}, {"ignore_index": (-1, 255)}]),
        (CASE.labels, LOGITS, [{"from_logits": True}]),
    ],
    ids=["255 and -1", "logits"],
)
def test_the_same_in_python(
    labels: np.ndarray, pred_probs: np.ndarray, steps: list[dict[str, Any]], tmp_path: Path
) -> None:
    stored, out = write(tmp_path / "in", labels, pred_probs), tmp_path / "out"
    arguments: dict[str, Any] = {}
    for step in steps:
        with pytest.raises(InputError) as raised:
            audit_zarr(*stored, out, progress=False, **arguments)
        assert raised.value.advice is not None
        assert raised.value.advice.arguments == step
        ((name, value),) = step.items()
        assert f"; {name}={value!r} " in str(raised.value)
        assert "--" not in str(raised.value)
        assert not out.exists()
        arguments |= step
    audit_zarr(*stored, out, progress=False, **arguments)


def test_an_integer_above_one_is_no_logit(tmp_path: Path) -> None:
    probs = (CASE.pred_probs * 255).astype("u1")
    stored = write(tmp_path / "in", CASE.labels, probs)
    zarr.open_array(stored.pred_probs).attrs["scale_factor"] = 0.1
    result = invoke(stored, tmp_path / "out")
    assert result.exit_code == 1
    assert "--from-logits" not in result.stderr
    assert "the scale_factor in the attributes says what an integer of 1 means" in result.stderr


@pytest.mark.usefixtures("smallest_groups")
def test_what_is_worth_keeping_is_kept(tmp_path: Path) -> None:
    """Five of six groups are on record; the advice says that other arguments start anew."""
    stored, out = write(tmp_path / "in", LATE_VOID, CASE.pred_probs), tmp_path / "out"
    with pytest.raises(InputError, match=r"ignore_index=255 leaves .*; overwrite=True besides"):
        audit_zarr(*stored, out, progress=False, group_bytes=1, n_jobs=1)
    assert zarr.open_group(out, mode="r").attrs["status"] == "unfinished"
    zarr.open_array(stored.labels)[-1:] = CASE.labels[-1:]
    report = audit_zarr(*stored, out, progress=False, group_bytes=1, n_jobs=1, resume=True)
    assert report.num_resumed == 5


def begin(stored: Stored, out: Path) -> None:
    """Make an audit that ended half-way."""
    assert invoke(stored, out).exit_code == 0
    zarr.open_group(out, mode="r+", use_consolidated=False).attrs["status"] = "unfinished"


def other(stored: Stored, out: Path) -> None:
    assert invoke(stored, out, "--downsample=2").exit_code == 0


def finish(stored: Stored, out: Path) -> None:
    assert invoke(stored, out).exit_code == 0


def damage(stored: Stored, out: Path) -> None:
    begin(stored, out)
    place = out / "label_issues" / "zarr.json"
    place.write_bytes(place.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("before", "options", "ways"),
    [
        (finish, (), ["--resume", "--overwrite"]),
        (begin, (), ["--resume", "--overwrite"]),
        (other, (), ["--overwrite"]),
        (other, ("--resume",), ["--overwrite"]),
        (damage, ("--resume",), ["--overwrite"]),
    ],
)
def test_an_output_that_is_there(
    before: Callable[[Stored, Path], None],
    options: tuple[str, ...],
    ways: list[str],
    tmp_path: Path,
) -> None:
    """Whichever way is advised, it ends in the output of a fresh audit."""
    stored = write(tmp_path / "in", CASE.labels, CASE.pred_probs)
    finish(stored, tmp_path / "fresh")
    for way in ways:
        out = tmp_path / way
        before(stored, out)
        result = invoke(stored, out, *options)
        assert result.exit_code == 1
        assert re.findall(OPTION, result.stderr.partition("; ")[2]) == ways
        kept = [] if way == "--overwrite" else list(options)
        assert invoke(stored, out, *kept, way).exit_code == 0
        assert files(out).keys() == files(tmp_path / "fresh").keys()


def test_resume_and_overwrite_of_different_arguments_do_not_go_round(tmp_path: Path) -> None:
    stored, out = write(tmp_path / "in", VOID, CASE.pred_probs), tmp_path / "out"
    assert invoke(stored, out, "--ignore-index=255").exit_code == 0
    result = invoke(stored, out, "--ignore-index=255", "--downsample=2")
    assert advised(result) == ["--overwrite"]
    assert invoke(stored, out, "--ignore-index=255", "--downsample=2", "--overwrite").exit_code == 0


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """What was there before the audit is there after it failed."""
    stored, out = write(tmp_path / "in", VOID, CASE.pred_probs), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert invoke(stored, out).exit_code == 1
    assert (out / "notes.txt").read_text() == "mine"


def test_an_audit_that_was_replaced_is_not_removed(tmp_path: Path) -> None:
    stored, out = write(tmp_path / "in", VOID, CASE.pred_probs), tmp_path / "out"
    assert invoke(stored, out, "--ignore-index=255").exit_code == 0
    assert invoke(stored, out, "--overwrite").exit_code == 1
    assert invoke(stored, out, "--overwrite", "--ignore-index=255").exit_code == 0


KINDS = [getattr(errors, n) for n in errors.__all__ if n.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_advice_travels(kind: type[LabelQCError]) -> None:
    """Errors come from workers, pickled."""
    error = kind("labels: 77", advise("{ignore_index} helps", ignore_index=(1, 77)))
    for made in (error, pickle.loads(pickle.dumps(error))):
        assert str(made) == "labels: 77; ignore_index=(1, 77) helps"
        assert (made.message, made.args) == ("labels: 77", ("labels: 77",))
    assert str(kind("alone")) == "alone"


def calls_and_texts(path: Path) -> Iterator[ast.Call | str]:
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        ):
            yield node.value


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name != "cli"], ids=named)
def test_only_the_command_line_speaks_of_options(path: Path) -> None:
    """Arguments in advice are named, and the names are options of a command.

    Elsewhere none is written as Python has it: the command line could not write it in its own way.
    """
    every = {str(p.name) for command in labelqc.commands.values() for p in command.params}
    for found in calls_and_texts(path):
        if isinstance(found, str):
            assert not re.search(r"(^|[ (])--[a-z]", found), found
            assert not re.search(rf"\b({'|'.join(every)})=", found), found
        elif isinstance(found.func, ast.Name) and found.func.id == "advise":
            assert {keyword.arg for keyword in found.keywords} <= every
