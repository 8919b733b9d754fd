"""Boxes of images, as the job takes them: a group of images is surveyed, then all are scored.

The outputs of images, of given boxes and of predicted boxes are each cut into as many chunks as
there are groups, of one size. So the chunks that a task writes are not those of the images that one
surveyed, and it reads the images to which they belong.
"""

from __future__ import annotations

import hashlib
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes

from dask_labelqc.errors import InputError
from dask_labelqc.kernels.boxes import BoxBlock
from dask_labelqc.object_detection.blocks import Boxes, Span, read_block
from dask_labelqc.object_detection.dataset import COLUMNS
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.passes import (
    OUTPUTS,
    Survey,
    num_class_groups,
    output_dtype,
    precision_of_group,
    score_images,
    survey_images,
)
from dask_labelqc.object_detection.stored import Gap
from dask_labelqc.pipeline.box_groups import BoxGroups
from dask_labelqc.pipeline.inputs import DenseOutput, Found, Inputs, Painted, Part, Results
from dask_labelqc.pipeline.runs import copy_part, without
from dask_labelqc.pipeline.stages import JobStages
from dask_labelqc.pipeline.stamps import Stamps, stamps_by
from dask_labelqc.pipeline.tasks import damaged_record
from dask_labelqc.storage.coordinates import Carried
from dask_labelqc.storage.records import Records
from dask_labelqc.typing import AnyArray, Floats, Ints, Shape

__all__ = ["BoxInputs", "Scoring"]

LEAST_BOXES = 2**12
"""Groups of fewer are not tried where memory is short."""
LOADED_BYTES = 128 * 2**20
"""Of the compiled kernels and the codecs, once they are loaded: of images and examples, blocks of
predictions are so large that what is counted for them covers it."""
BOX_BYTES = 120
"""That a task holds of each box; see `object_detection.blocks`."""


@dataclass(frozen=True)
class Surveyed:
    """What is kept of a group: the survey, and for each group of classes what was matched."""

    survey: Survey
    matched: Sequence[Sequence[tuple[Ints, Floats, AnyArray]]]


@dataclass(frozen=True)
class Scoring:
    """What the scores of an image need to know of all the others.

    Attributes
    ----------
    smallest_similarity, precision
        Of the dataset, and of each class.
    left_out
        Runs of images that are not scored.
    """

    smallest_similarity: float
    precision: Floats
    left_out: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BoxInputs(Inputs):
    """The boxes of a dataset in Zarr, and how they are scored; see `inputs.Inputs`.

    Attributes
    ----------
    cut
        The columns, cut into groups.
    offsets
        A hash of those of the images, which say where groups may begin.
    gaps
        What is not in the store: the images whose boxes these are cannot be audited.
    """

    cut: BoxGroups
    num_classes: int
    options: BoxScoreOptions
    offsets: str
    coords: Mapping[str, xr.Variable]
    gaps: tuple[Gap, ...]
    boxes: Boxes | None = None

    item: ClassVar[str] = "image"
    labels: ClassVar[frozenset[str]] = frozenset(n for n in COLUMNS if n.startswith("given"))

    @classmethod
    def of(cls, boxes: Boxes, options: BoxScoreOptions, block_boxes: int) -> Self:
        """Cut boxes in Zarr into groups of about so many."""
        columns = {name: boxes.columns[name] for name in COLUMNS if name in boxes.columns}
        offsets = np.stack([boxes.given_offsets, boxes.predicted_offsets]).astype("<i8")
        hashed = hashlib.sha256(offsets.tobytes()).hexdigest()[:16]
        # In the same order, whatever that is in which the store lists them.
        coords = {n: coord.drop_encoding() for n, coord in sorted((boxes.coords or {}).items())}
        cut = BoxGroups.of(columns, boxes, block_boxes)
        return cls(cut, boxes.num_classes, options, hashed, coords, boxes.gaps, boxes)

    def __getstate__(self) -> dict[str, Any]:
        # Of a million images the offsets are too much for each task to bring.
        return {**vars(self), "boxes": None, "coords": {}}

    @property
    def arrays(self) -> Mapping[str, zarr.Array[Any]]:
        return self.cut.columns

    @property
    def num_groups(self) -> int:
        return self.cut.number

    @property
    def groups(self) -> Shape:
        return (self.cut.block_boxes,)

    @property
    def num_lists(self) -> int:
        return self.num_groups * self.class_groups

    @property
    def paints_alone(self) -> bool:
        return True

    @property
    def loaded_bytes(self) -> int:
        return LOADED_BYTES

    @property
    def class_groups(self) -> int:
        """Groups of classes, of which lists are kept apart."""
        return num_class_groups(self.sizes["predicted_box"], self.num_classes)

    @property
    def sizes(self) -> dict[str, int]:
        """How many images and boxes there are."""
        return self.cut.sizes

    def check_size(self) -> None:
        pass  # the offsets fit into this process, and nothing else is kept of each image

    def smaller(self) -> Iterator[Self]:
        yield self
        assert self.boxes is not None
        cut = self.cut
        while cut.block_boxes > LEAST_BOXES:
            cut = cut.smaller(self.boxes)
            yield replace(self, cut=cut)

    def worker_bytes(self) -> int:
        """Return what one thread of a worker holds.

        120 bytes for each box of a group, 9 more of a prediction for the lists, the outputs of a
        group, and the chunks of each column as they are stored and decoded.
        """
        images, given, predicted = np.diff(self.cut.edges).max(axis=1).tolist()
        held = int((BOX_BYTES + 16) * (given + predicted) + 16 * images)
        outputs = sum(output.dtype.itemsize * output.chunks[0] for output in self.outputs())
        return held + outputs + 2 * self._chunk_bytes

    @property
    def _chunk_bytes(self) -> int:
        return sum(array.dtype.itemsize * math.prod(array.chunks) for array in self.arrays.values())

    def too_large(self) -> str:
        most = int(np.diff(self.cut.edges[1:].sum(axis=0)).max())
        stored = format_bytes(self._chunk_bytes)
        return f"groups of {most} boxes, in chunks of the columns that are {stored} together: they"

    def fingerprint(self) -> dict[str, Any]:
        return {
            **self._parameters(),
            "num_classes": self.num_classes,
            "offsets": self.offsets,
        }

    def _parameters(self) -> dict[str, float]:
        """Return the parameters as `object_detection.audit` tells them."""
        parameters = {**vars(self.options)}
        weights = {f"weight_{kind}": value for kind, value in parameters.pop("weights").items()}
        return {name: float(value) for name, value in (parameters | weights).items()}

    def stamps(self, name: str) -> Stamps | None:
        array = self.arrays[name]
        length = (array.shards or array.chunks)[0]

        def groups_of(position: Shape) -> Iterable[int]:
            return self.cut.touched(name, position[0] * length, (position[0] + 1) * length)

        return stamps_by(name, array, self.num_groups, groups_of)

    def outputs(self) -> list[DenseOutput]:
        found = []
        for name, dim in OUTPUTS.items():
            size, dtype = self.sizes[dim], np.dtype(output_dtype(name))
            chunk = max(-(-size // self.num_groups), 1)
            fill = np.nan if dtype.kind == "f" else False
            found.append(DenseOutput(name, (size,), (chunk,), dtype, fill, (dim,)))
        return found

    def output_stamps(self, name: str, array: zarr.Array[Any]) -> Stamps | None:
        return stamps_by(name, array, self.num_groups, lambda position: position)

    def carried(self) -> Carried:
        coords = {name: coord for name, coord in self.coords.items() if name not in OUTPUTS}
        others = [name for name in coords if name not in (*self.sizes, "class")]
        return Carried(
            xr.Dataset(coords=coords), {"coordinates": " ".join(others)} if others else {}
        )

    def items(self, number: int) -> tuple[int, int]:
        return self.cut.items(number)

    def scan(self, how: None, part: Part, left_out: Sequence[int] = ()) -> Found:
        waited, num_bytes, labels = 0.0, 0, 0
        surveys: list[Survey] = []
        matched: list[list[Any]] = [[] for _ in range(self.class_groups)]
        for run in without(part.items, left_out):
            begun = time.monotonic()
            block = self._read(self.cut.span(*run))
            waited += time.monotonic() - begun
            labels, num_bytes = _hashed(block, labels), num_bytes + _predicted_bytes(block)
            survey, *lists = survey_images(
                block, self.num_classes, self.options.alpha, self.class_groups
            )
            surveys.append(survey)
            for group, found in zip(matched, lists, strict=True):
                group.append(found)
        survey = Survey.combine(surveys)
        return Found(survey, Surveyed(survey, matched), {}, num_bytes, waited, labels)

    def labels_hash(self, number: int) -> int:
        return _hashed(self._read(self.cut.span(*self.items(number))), 0)

    def _read(self, span: Span) -> BoxBlock:
        for gap in self.gaps:
            rows = span.of(gap.column)
            if max(rows.start, gap.rows[0]) < min(rows.stop, gap.rows[1]):
                raise InputError(gap.message)
        return read_block(self.arrays, span, self.num_classes)

    def to_record(self, kept: Surveyed) -> dict[str, AnyArray]:
        return {name: np.asarray(value) for name, value in vars(kept.survey).items()}

    def to_lists(self, number: int, kept: Surveyed) -> dict[int, dict[str, AnyArray]]:
        return {
            number * self.class_groups + group: {
                "counts": np.stack([counts for counts, _, _ in parts]),
                "scores": np.concatenate([scores for _, scores, _ in parts]),
                "matches": np.concatenate([matches for _, _, matches in parts]),
            }
            for group, parts in enumerate(kept.matched)
        }

    def total(self, record: Mapping[str, AnyArray]) -> Survey:
        smallest, *counts = (record[name] for name in vars(NO_SURVEY))
        return Survey(float(smallest), *counts)

    def kept(self, number: int, record: Mapping[str, AnyArray]) -> Survey:
        return self.total(record)

    def paint(self, how: Scoring, number: int, record: Mapping[str, AnyArray]) -> Painted:
        chunks = {output.name: _chunk(output, number) for output in self.outputs()}
        dense = {
            output.name: np.full(
                chunks[output.name][1] - chunks[output.name][0], output.fill_value, output.dtype
            )
            for output in self.outputs()
        }
        wanted = {OUTPUTS[name]: chunk for name, chunk in chunks.items()}
        num_bytes = 0
        for span in self.cut.spans_of(wanted, how.left_out):
            block = self._read(span)
            num_bytes += _predicted_bytes(block)
            found = score_images(
                block, tuple(OUTPUTS), self.options, how.smallest_similarity, how.precision
            )
            for name, values in zip(OUTPUTS, found, strict=True):
                copy_part(values, span.along(OUTPUTS[name])[0], dense[name], chunks[name])
        return Painted(dense, None, int(dense["label_issues"].sum()), num_bytes)

    def find(self, stages: JobStages) -> Results:
        total: Survey = stages.scan(None)
        about = self, stages.groups, total
        parts = stages.of_lists("precision", _precision, self.class_groups, *about)
        precision: Floats = np.stack(list(parts)).sum(axis=0, dtype=np.float32)
        left_out = tuple(failure.images for failure in stages.failures)
        how = Scoring(total.smallest_similarity, precision, left_out)
        num_issues = sum(painted.total for painted in stages.paint(how))
        small: list[tuple[str, tuple[str, ...], Any]] = [
            ("average_precision", ("class",), precision),
            ("given_count", ("class",), total.given_count),
            ("predicted_count", ("class",), total.predicted_count),
            ("min_possible_similarity", (), np.float64(total.smallest_similarity)),
        ]
        assert self.boxes is not None
        for side in ("given", "predicted"):
            name = f"{side}_offsets"
            small.append((name, ("image_edge",), getattr(self.boxes, name)))
        return Results(small, {**self._parameters(), "num_issues": num_issues})

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Names of the classes, as far as there are any."""
        found = self.coords.get("class_name")
        return {} if found is None else dict(enumerate(map(str, found.values.tolist())))


NO_SURVEY = Survey(1.0, *np.zeros((3, 0), np.int64))


def _chunk(output: DenseOutput, number: int) -> tuple[int, int]:
    (size,), (length,) = output.shape, output.chunks
    return min(number * length, size), min((number + 1) * length, size)


def _precision(
    lists: Records, inputs: BoxInputs, groups: Sequence[int], total: Survey, group: int
) -> Floats:
    """Return the average precision of the classes of a group, from what is on record."""
    parts: list[tuple[Ints, Floats, AnyArray]] = []
    numbers = [number * inputs.class_groups + group for number in groups]
    with lists.reading(numbers) as records:
        for number, record in records:
            if record is None:
                raise damaged_record(number // inputs.class_groups, lists.array)
            cuts = np.cumsum(record["counts"].sum(axis=1))[:-1]
            scores, matches = (np.split(record[name], cuts) for name in ("scores", "matches"))
            parts += zip(record["counts"], scores, matches, strict=True)
    return precision_of_group(total, group, inputs.class_groups, parts)


def _hashed(block: BoxBlock, before: int) -> int:
    """Return a hash of the labels of a block, and of those before."""
    for column in (block.given_boxes, block.given_classes, block.given_crowd):
        before = zlib.crc32(np.ascontiguousarray(column).data, before)
    return before


def _predicted_bytes(block: BoxBlock) -> int:
    columns = (block.predicted_boxes, block.predicted_classes, block.predicted_scores)
    return sum(column.nbytes for column in columns)
