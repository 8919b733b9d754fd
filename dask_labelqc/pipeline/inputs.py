"""What a kind of dataset gives the job: images, examples or boxes, and what is done with them.

The job itself knows groups by their numbers, and that each is a run of items: images, or examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import zarr

from dask_labelqc.errors import LabelQCError
from dask_labelqc.pipeline.stamps import Stamps
from dask_labelqc.storage.arrays import location
from dask_labelqc.storage.coordinates import Carried
from dask_labelqc.typing import AnyArray, Shape

if TYPE_CHECKING:
    from dask_labelqc.pipeline.stages import JobStages

__all__ = [
    "PROCESS_BYTES",
    "DenseOutput",
    "Found",
    "Inputs",
    "Painted",
    "Part",
    "Results",
]

PROCESS_BYTES = 200 * 2**20
"""Python, Dask, Zarr and the compiled kernels."""


@dataclass(frozen=True)
class Part:
    """Items of a group.

    Attributes
    ----------
    number
        Of the group.
    items
        The first, and the one after the last.
    """

    number: int
    items: tuple[int, int]

    @property
    def num_items(self) -> int:
        return self.items[1] - self.items[0]

    def halves(self, chunk: int = 1) -> tuple[Part, ...]:
        """Cut the part in two between chunks of so many items; nothing if it lies in one.

        Examples
        --------
        >>> [half.items for half in Part(0, (10, 90)).halves(chunk=40)]
        [(10, 40), (40, 90)]
        """
        first, stop = self.items
        middle = -(-(first // chunk + (stop - 1) // chunk) // 2) * chunk
        if not first < middle < stop:
            return ()
        return Part(self.number, (first, middle)), Part(self.number, (middle, stop))


@dataclass(frozen=True)
class DenseOutput:
    """An output that tasks write, each group its own chunk."""

    name: str
    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    fill_value: Any
    dims: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What was found in items of a group when they were read.

    Attributes
    ----------
    total
        To be added up over the dataset.
    kept
        What is put on record besides; see `Inputs.to_record`.
    dense
        Values of outputs, by name, along the outputs' own dimensions.
    num_bytes
        Of predictions that were read, decoded.
    read_seconds
        For which it waited for data.
    labels
        A hash of the labels.
    """

    total: Any
    kept: Any
    dense: Mapping[str, AnyArray]
    num_bytes: int
    read_seconds: float
    labels: int


@dataclass(frozen=True)
class Painted:
    """What the last stage makes of a group.

    Attributes
    ----------
    dense
        Values of outputs, by name, along the outputs' own dimensions.
    part
        What is to be told of this group.
    total
        To be added up over the dataset.
    num_bytes
        Of predictions that were read for it.
    """

    dense: Mapping[str, AnyArray]
    part: Any
    total: Any
    num_bytes: int = 0


@dataclass(frozen=True)
class Results:
    """What is written at the end.

    Attributes
    ----------
    small
        Name, dimensions and values of the small outputs.
    attributes
        Of the output.
    """

    small: Sequence[tuple[str, tuple[str, ...], Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Inputs(Protocol):
    """The opened inputs of a job, with what is asked of it and how it is cut into groups.

    They travel with every task. What most kinds have in common is written here.

    Attributes
    ----------
    item
        What is counted, and left out if it cannot be read: "image" or "example".
    labels
        Names of the arrays that are labels.
    there_before
        What lies in the output before there is a job, and is not the job's.
    arrays
        What is read, by the name that it has in messages.
    num_groups, groups
        How many, and what their size is: of an output that is to be finished it has to be this.
    ahead
        Blocks that are read while one is worked on.
    num_lists
        Records of lists that are kept beside those of the groups, in all.
    paints_alone
        The last stage reads the inputs, whatever is on record.
    paints_all
        The last stage also paints groups of which nothing is on record.
    """

    item: ClassVar[str]
    labels: ClassVar[frozenset[str]]
    there_before: ClassVar[frozenset[str]] = frozenset()

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]: ...

    @property
    def places(self) -> Mapping[str, str]:
        """Where what is read lies, by the name that it has in messages."""
        return {name: location(array) for name, array in self.arrays.items()}

    @property
    def num_groups(self) -> int: ...

    @property
    def groups(self) -> Shape: ...

    @property
    def ahead(self) -> int:
        return 0

    @property
    def num_lists(self) -> int:
        return 0

    @property
    def paints_alone(self) -> bool:
        return False

    @property
    def paints_all(self) -> bool:
        return self.paints_alone

    # Before any work

    def check_size(self) -> None:
        """Raise InputError if what this process keeps would not fit into it."""

    def smaller(self) -> Iterator[Self]:
        """Yield these inputs, and then such with smaller groups or less reading ahead."""

    def worker_bytes(self) -> int:
        """Return what one thread of a worker holds."""

    def too_large(self) -> str:
        """Say what it is that does not fit into memory; "chunks of ..."."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what the output depends on besides where the inputs are, as plain values."""

    def stamps(self, name: str) -> Stamps | None:
        """Return what the store of an input says of each group; see `stamps.group_stamps`."""

    def outputs(self) -> Sequence[DenseOutput]:
        """Return the outputs that tasks write."""

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        """Return what the store of an output says of each group."""

    def carried(self) -> Carried:
        """Return the coordinates that the output has too."""

    # Of a group

    def items(self, number: int) -> tuple[int, int]:
        """Return the first item of a group, and the one after its last."""

    def beside(self, number: int) -> range:
        """Return the groups that hold parts of the same items, this one among them."""
        return range(number, number + 1)

    def position(self, number: int) -> Shape:
        """Return which chunk of an output is that of a group."""
        return (number,)

    @property
    def together(self) -> int:
        """How many items are read together, and so cannot be read together."""
        return 1

    def bad_items(self, how: Any, part: Part) -> Mapping[int, LabelQCError]:
        """Return what cannot be audited of items that are read together; they are read once.

        Where it cannot be read at all, whatever reading raises.
        """
        return {}  # each is read by itself

    def scan(self, how: Any, part: Part, left_out: Sequence[int] = ()) -> Found:
        """Read items of a group, without those that are left out."""

    def labels_hash(self, number: int) -> int:
        """Return `Found.labels` of a group of which nothing is left out."""

    def to_record(self, kept: Any) -> Mapping[str, AnyArray]:
        """Return what is put on record of `Found.kept`."""

    def to_lists(self, number: int, kept: Any) -> Mapping[int, Mapping[str, AnyArray]]:
        """Return what is put on record of it besides, by number."""
        return {}

    def total(self, record: Mapping[str, AnyArray]) -> Any:
        """Return `Found.total` from a record."""

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> Any:
        """Return what the stages after the first look at, from a record."""

    def paint(self, how: Any, number: int, record: Mapping[str, AnyArray]) -> Painted:
        """Return the outputs of a group, and what else is to be told of it."""

    def needed(self, how: Any, number: int) -> Sequence[int]:
        """Return the groups whose records the outputs of one are painted from, ascending."""
        return () if self.paints_alone else (number,)

    def paint_from(
        self, how: Any, number: int, records: Mapping[int, Mapping[str, AnyArray]]
    ) -> Painted:
        """Return the outputs of a group from the records that are needed for it."""
        return self.paint(how, number, records.get(number, {}))

    # Of all

    def find(self, stages: JobStages) -> Results:
        """Run the stages, the last of which paints."""
