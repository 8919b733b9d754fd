"""One job at a time on an output: a claim in it that the job renews for as long as it lives.

Claims are numbered objects, each created by exactly one of all who try. Whoever finds that the job
of the highest one is no more creates the next, deletes those before, and looks at the output only
then. So a claim that is there is that of the job that may write, and every write looks at it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from zarr.abc.store import Store

from dask_labelqc.errors import (
    LabelQCError,
    OutputError,
    StoreError,
    TakenOverError,
    advise,
)
from dask_labelqc.pipeline.identity import is_alive, own_identity
from dask_labelqc.storage.fence import Claim, FencedStore, close_desk, open_desk
from dask_labelqc.storage.objects import (
    create_object,
    list_names,
    read_object,
    remove_object,
    write_object,
)

__all__ = ["CHECKPOINT", "CLAIMS", "Lease", "hold", "is_claimed"]

CHECKPOINT = "checkpoint"
"""The group in an output that is deleted once it is complete."""
CLAIMS = f"{CHECKPOINT}/claims"
BEAT = 5.0
"""Seconds between two renewals."""
MISSED = 3
"""Renewals that fail to come until a job that cannot be looked up is taken for dead."""

log = logging.getLogger(__name__)


class Lease:
    """A claim, renewed by a thread until `end`.

    Attributes
    ----------
    id
        Of the claim.
    store
        The output's, for this job to write to.
    """

    def __init__(self, store: Store, url: str, key: str, content: bytes) -> None:
        self._raw, self._url = store, url
        self._key, self._content = key, content
        self.id = str(json.loads(content)["id"])
        self.store = FencedStore(store, Claim(CLAIMS, key, content))
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="labelqc-lease")
        self._thread.start()

    def check(self) -> None:
        """Raise TakenOverError if another job is known to have taken the output over."""
        if self._lost:
            raise self._taken_over()

    def look(self) -> None:
        """Raise TakenOverError if another job has taken the output over; the claim is looked at."""
        if read_object(self._raw, self._key) != self._content:
            raise self._taken_over()

    def _taken_over(self) -> TakenOverError:
        return TakenOverError(f"output: {self._url!r} was taken over by another job; this one ends")

    def end(self) -> None:
        """Give the output back, if it is not another job's by now."""
        self._ended.set()
        self._thread.join(BEAT)  # a store that does not answer is not waited for
        if read_object(self._raw, self._key) == self._content:
            _remove(self._raw, self._key)

    def _renew(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT):
            beat += 1
            try:
                write_object(self.store, _beat(self._key), str(beat).encode())
            except TakenOverError:
                self._lost = True
                return
            except Exception as error:  # whatever the store raises: the next one may get through
                log.warning("output: the note that %s is in use: %s", self._url, error)


@contextmanager
def hold(store: Store, url: str) -> Iterator[Lease]:
    """Hold an output as long as the context lasts.

    Trouble with giving it back is added to an error that ends the context, never put in its place.

    Raises
    ------
    OutputError
        A job that is alive holds it, or the store cannot tell who of two was the first.
    """
    lease = _claim(store, url)
    cause: BaseException | None = None
    try:
        yield lease
    except BaseException as error:
        cause = error
        if isinstance(error, OutputError):
            with suppress(StoreError):
                lease.look()  # records that are gone, say: the other job has deleted them
        raise
    finally:
        try:
            lease.end()
        except Exception as trouble:  # whatever the store raises
            _add(cause, f"the claim on the output could not be taken back either: {trouble}")


def _add(cause: BaseException | None, text: str) -> None:
    if cause is None:
        log.warning("output: %s", text)
    elif isinstance(cause, LabelQCError):
        cause.message = f"{cause.message} ({text})"
    else:
        cause.add_note(text)


def is_claimed(store: Store) -> bool:
    """Say if there is a claim, of a job that may be alive or not."""
    return bool(_numbers(store))


def _claim(store: Store, url: str) -> Lease:
    content = json.dumps({"id": uuid.uuid4().hex} | own_identity()).encode()
    while True:
        before = _wait_until_free(store, url)
        numbers = _numbers(store)
        if numbers[-1:] != ([] if before is None else [before[0]]):
            continue  # somebody came, or went
        key = _key(numbers[-1] + 1 if numbers else 0)
        if not _create(store, url, key, content):
            winner = read_object(store, key)
            if winner is None:
                continue
            if winner != content:  # else the client was not told, and asked again
                raise _held(url, _parsed(winner))
        if before is not None and read_object(store, _key(before[0])) not in (None, before[1]):
            _remove(store, key)
            raise _held(url, _parsed(read_object(store, _key(before[0]))))
        for number in numbers:
            _remove(store, _key(number))
        if not open_desk(store, Claim(CLAIMS, key, content)):
            raise _held(url, _parsed(read_object(store, key)))
        return Lease(store, url, key, content)


def _create(store: Store, url: str, key: str, content: bytes) -> bool:
    """Create a claim; make sure that the store would not let another one do it."""
    try:
        if not create_object(store, key, content):
            return False
        if not create_object(store, key, content):
            return True
        remove_object(store, key)
    except NotImplementedError:
        pass
    raise OutputError(
        f"output: the store of {url!r} cannot create an object only if there is none, so of two "
        "jobs that start at once neither would know",
        advise(
            "write to another store, or, if you make sure yourself that one job writes there at a "
            "time, say so: {storage_options}",
            storage_options={"one_writer": True},
        ),
    )


def _wait_until_free(store: Store, url: str) -> tuple[int, bytes] | None:
    """Return the last claim once its job is known to be no more, None if there is none.

    Where the process cannot be looked up, its claim is watched until it is renewed, or `MISSED`
    renewals did not come; clocks are not compared.
    """
    found = _last(store)
    if found is None:
        return None
    number, content = found
    holder = _parsed(content)
    alive = is_alive(holder)
    if alive:
        raise _held(url, holder)
    if alive is None:
        log.info("output: %s is held by %s; is it alive?", url, _name(holder))
        beat = read_object(store, _beat(_key(number)))
        deadline = time.monotonic() + MISSED * BEAT
        while time.monotonic() < deadline:
            time.sleep(BEAT / 5)
            if _last(store) != found:
                return _wait_until_free(store, url)
            if read_object(store, _beat(_key(number))) != beat:
                raise _held(url, holder)
    return found


def _last(store: Store) -> tuple[int, bytes] | None:
    while numbers := _numbers(store):
        content = read_object(store, _key(numbers[-1]))
        if content is not None:
            return numbers[-1], content
    return None


def _numbers(store: Store) -> list[int]:
    return sorted(int(name) for name in list_names(store, CLAIMS) if name.isdigit())


def _key(number: int) -> str:
    return f"{CLAIMS}/{number:06}"


def _beat(key: str) -> str:
    return f"{key}.beat"


def _remove(store: Store, key: str) -> None:
    close_desk(store, key)
    remove_object(store, _beat(key))
    remove_object(store, key)


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"")
    except ValueError:
        found = None  # not written to the end
    return found if isinstance(found, dict) else {}


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}"


def _held(url: str, holder: dict[str, Any]) -> OutputError:
    return OutputError(
        f"output: {url!r} is being written by another job ({_name(holder)}); wait until it has "
        "ended, or name another output"
    )
