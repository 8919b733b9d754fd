"""What a claim keeps from an output, wherever its job is stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from zarr.storage import LocalStore

from dask_labelqc.errors import TakenOverError
from dask_labelqc.storage import fence
from dask_labelqc.storage.fence import Claim, FencedStore, close_desk, open_desk
from dask_labelqc.storage.objects import create_object, remove_object

CLAIMS = "checkpoint/claims"
THERE = ("zarr.json", "a/zarr.json", "a/c/0/0")

CHANGES: dict[str, Callable[[FencedStore], Any]] = {
    "put": lambda store: store.put_file("a/c/0/1", b"new"),
    "put in folders that are missing": lambda store: store.put_file("b/c/0/0", b"new"),
    "put in a folder that is missing": lambda store: store.put_file("a/c/1/0", b"new"),
    "replace": lambda store: store.put_file("a/c/0/0", b"new"),
    "remove": lambda store: store.remove_file("a/c/0/0"),
    "remove what is not there": lambda store: store.remove_file("a/c/7/0"),
    "delete": lambda store: asyncio.run(store.delete("a/c/0/0")),
    "delete a folder": lambda store: asyncio.run(store.delete_dir("a")),
    "clear": lambda store: asyncio.run(store.clear()),
}


class Place:
    """A folder with a few files, and a claim on it."""

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root)
        self.root = root
        for key in THERE:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(key.encode())
        self.claim = Claim(CLAIMS, f"{CLAIMS}/000000", b"the first")
        self.fenced = self._claimed(self.claim)

    def _claimed(self, claim: Claim) -> FencedStore:
        assert create_object(self.store, claim.key, claim.content)
        assert open_desk(self.store, claim)
        return FencedStore(self.store, claim)

    def take_over(self) -> dict[str, bytes]:
        """Give it to another job, which writes; return what is there then."""
        other = self._claimed(Claim(CLAIMS, f"{CLAIMS}/000001", b"the second"))
        close_desk(self.store, self.claim.key)
        remove_object(self.store, self.claim.key)
        for key in THERE:
            other.put_file(key, b"of the second")
        return self.files()

    def files(self) -> dict[str, bytes]:
        """Every file; empty folders say nothing."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


class StopAt:
    """Does something before the line of that number of all that run in the module."""

    def __init__(self, number: int, then: Callable[[], Any]) -> None:
        self._left, self._then = number, then
        self.returned: Any = None

    @property
    def came(self) -> bool:
        return self._left < 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != fence.__file__:
            return None
        if event == "line":
            self._left -= 1
            if self._left == -1:
                sys.settrace(None)
                self.returned = self._then()
        return self

    def __enter__(self) -> StopAt:
        self._before = sys.gettrace(), threading.gettrace()
        threading.settrace(self)
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before[0])
        threading.settrace(self._before[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whoever_is_stopped_at_any_line_changes_no_file_afterwards(
    change: Callable[[FencedStore], Any], tmp_path: Path
) -> None:
    for number in range(1000):
        place = Place(tmp_path / str(number))
        stop = StopAt(number, place.take_over)
        with stop:
            try:
                change(place.fenced)
            except TakenOverError:
                assert stop.came
        if not stop.came:
            break
        assert place.files() == stop.returned
    assert 3 < number < 999


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whoever_was_taken_over_is_told(
    change: Callable[[FencedStore], Any], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    after = place.take_over()
    with pytest.raises(TakenOverError, match="was taken over by another job; this one ends"):
        change(place.fenced)
    assert place.files() == after


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_is_left_on_the_desk(change: Callable[[FencedStore], Any], tmp_path: Path) -> None:
    place = Place(tmp_path)
    change(place.fenced)
    assert list((tmp_path / f"{place.claim.key}.desk").iterdir()) == []
    close_desk(place.store, place.claim.key)
    assert not [path for path in tmp_path.rglob("*") if "desk" in path.name]


def test_a_desk_is_not_opened_for_a_claim_that_is_gone(tmp_path: Path) -> None:
    place = Place(tmp_path)
    after = place.take_over()
    assert not open_desk(place.store, place.claim)
    assert place.files() == after


def test_folders_that_many_make_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    keys = [f"b/c/{i % 2}/{i}" for i in range(40)]
    start = threading.Barrier(8)

    def put(some: list[str]) -> None:
        start.wait()
        for key in some:
            place.fenced.put_file(key, key.encode())

    threads = [threading.Thread(target=put, args=(keys[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: place.files().get(key) for key in keys} == {key: key.encode() for key in keys}


def test_trouble_with_a_folder_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        place.fenced.put_file("file/c/0", b"new")
