"""Which files there are, and of which image each is."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from dask_labelqc.errors import InputError
from dask_labelqc.files.places import find_files, suffix_of

SUFFIXES = (".png", ".nii.gz", ".tif", ".tiff")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def keys(location: str | Path | list[str]) -> dict[str, str]:
    return dict(find_files("labels", location, SUFFIXES).keys)


def test_a_folder_has_the_files_of_its_formats(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.PNG", "deep/c.png", "readme.txt", ".hidden")
    assert keys(tmp_path) == {"a": "a.png", "b": "b.PNG", "c": "deep/c.png"}
    assert keys(f"file://{tmp_path}/") == keys(tmp_path)


def test_patterns(tmp_path: Path) -> None:
    fill(tmp_path, "x/a_mask.png", "x/a_color.png", "y/b_mask.png", "y/deep/c_mask.png")
    assert keys(f"{tmp_path}/*/{{id}}_mask.png") == {"a": "x/a_mask.png", "b": "y/b_mask.png"}
    deep = {"a": "x/a_mask.png", "b": "y/b_mask.png", "c": "y/deep/c_mask.png"}
    assert keys(f"{tmp_path}/**/{{id}}_mask.png") == deep
    assert keys(f"{tmp_path}/[!x]/*.png") == {"b_mask": "b_mask.png"} | {"b_mask": "y/b_mask.png"}
    assert keys(f"{tmp_path}/x/?_mask.png") == {"a_mask": "a_mask.png"}


def test_brackets_that_are_in_a_name(tmp_path: Path) -> None:
    fill(tmp_path, "br[2]/a.png", "br2/b.png")
    for location in ("br[2]", "br[2]/", "br[2]/a.png", "br[2]/*.png"):
        assert keys(f"{tmp_path}/{location}") == {"a": "a.png"}
    assert keys(f"{tmp_path}/br[0-9]/*.png") == {"b": "br2/b.png"}


def test_an_id_that_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "s1/seg.nii.gz", "s1/t1.nii.gz", "s2/seg.nii.gz")
    found = find_files("labels", f"{tmp_path}/{{id}}/seg.nii.gz", SUFFIXES)
    assert found.ids == ["s1", "s2"]
    assert found.name("s2") == f"{tmp_path}/s2/seg.nii.gz"


def test_files_one_by_one(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.png", "y/b.png")
    assert keys([f"{tmp_path}/x/a.png", f"{tmp_path}/y/b.png"]) == {"a": "x/a.png", "b": "y/b.png"}
    assert keys(tmp_path / "x/a.png") == {"a": "a.png"}
    with pytest.raises(InputError, match=r"^labels: .*/x/none.png is not there"):
        keys([f"{tmp_path}/x/none.png"])


def test_what_it_changes_with(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    before = find_files("labels", tmp_path, SUFFIXES)
    (tmp_path / "a.png").write_bytes(b"other")
    after = find_files("labels", tmp_path, SUFFIXES)
    assert before.tag("a") != after.tag("a")
    assert before.tag("b") == after.tag("b") != ""


def test_names_that_follow_their_ids_are_not_carried(tmp_path: Path) -> None:
    many = [f"{i:05}_mask.png" for i in range(300)]
    fill(tmp_path, *many)
    found = find_files("labels", f"{tmp_path}/{{id}}_mask.png", SUFFIXES)
    dumped = pickle.dumps(found)
    assert len(dumped) < 1000
    assert pickle.loads(dumped).name("00123") == found.name("00123")
    fill(tmp_path / "other", "x/a.png", "y/b.png")
    odd = pickle.loads(pickle.dumps(find_files("labels", tmp_path / "other", SUFFIXES)))
    assert odd.name("b") == f"{tmp_path}/other/y/b.png"


def test_two_of_one_image(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.png", "y/a.png")
    with pytest.raises(InputError, match=r"both of the image 'a'; a pattern says .*/\{id\}"):
        keys(tmp_path)


def test_several_kinds(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.tif", "c.tiff")
    with pytest.raises(InputError, match=r"files of several kinds, such as a.png, b.tif, c.tiff"):
        keys(tmp_path)
    assert keys(f"{tmp_path}/*.tif*") == {"b": "b.tif", "c": "c.tiff"}


def test_nothing(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"^labels: '.*' has no files that an audit can read"):
        keys(tmp_path)
    with pytest.raises(InputError, match=r"^labels: '.*/none' is not there"):
        keys(tmp_path / "none")
    with pytest.raises(InputError, match="labels: got no files"):
        keys([])


def test_endings() -> None:
    assert [suffix_of(n) for n in ("a.PNG", "b.nii.gz", "c.d.tif", "e")] == [
        ".png",
        ".nii.gz",
        ".tif",
        "",
    ]
