"""Examples and boxes to put on record in some way, and the stored runs to hold them against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from dask_labelqc import DetectionInspector, LabelInspector, finish_audit
from dask_labelqc.object_detection import from_lists
from dask_labelqc.pipeline import audit_boxes_zarr, audit_examples_zarr
from tests.object_detection.boxes import make_lists
from tests.pipeline.others import make_examples

KINDS = ("boxes", "facts", "rows")
SECOND = {"seed": 7}
"""Of a dataset that is not the usual one."""
DENSE = {"write_label_quality": True, "write_predicted_label": True}


@dataclass
class Examples:
    """Examples of four classes, and how they are scored."""

    labels: Any
    probs: Any
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """That sort in the order of the examples."""
        return [f"example-{i:04}" for i in range(len(self.labels))]

    def inspector(self, output: Any, **arguments: Any) -> LabelInspector:
        count = {n: v for n, v in self.options.items() if n == "estimation_method"}
        score = {n: v for n, v in self.options.items() if n not in count}
        flush = {"flush_examples": arguments.pop("flush")} if "flush" in arguments else {}
        return LabelInspector(
            output,
            num_class=4,
            verbose=False,
            quality_score_kwargs=score,
            num_issue_kwargs=count,
            **{**DENSE, **flush, **arguments},
        )

    def put(self, inspector: Any, items: Sequence[int]) -> None:
        """Take in examples, in this order, as one batch."""
        chosen = list(items)
        inspector.update([self.ids[i] for i in chosen], self.labels[chosen], self.probs[chosen])

    def stored(self, path: Path, items: Sequence[int] | None = None) -> Path:
        """Audit the stored predictions of examples, in this order."""
        chosen = list(range(len(self.labels)) if items is None else items)
        group = zarr.open_group(path / "in", mode="w")
        for name, values in (("labels", self.labels), ("pred_probs", self.probs)):
            group.create_array(name, data=values[chosen])
        places = path / "in/labels", path / "in/pred_probs", path / "stored"
        audit_examples_zarr(*places, **self.options, **DENSE, progress=False, n_jobs=1)
        return path / "stored"


@dataclass
class Boxes:
    """Images with boxes of three classes."""

    labels: list[dict[str, Any]]
    predictions: list[list[Any]]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [f"image-{i:04}" for i in range(len(self.labels))]

    def inspector(self, output: Any, **arguments: Any) -> DetectionInspector:
        flush = {"flush_images": arguments.pop("flush")} if "flush" in arguments else {}
        return DetectionInspector(output, 3, **{**self.options, **flush, **arguments})

    def put(self, inspector: Any, items: Sequence[int]) -> None:
        chosen = list(items)
        given = [self.labels[i] for i in chosen]
        predicted = [self.predictions[i] for i in chosen]
        inspector.update([self.ids[i] for i in chosen], given, predicted)

    def stored(self, path: Path, items: Sequence[int] | None = None) -> Path:
        chosen = list(range(len(self.labels)) if items is None else items)
        given = [self.labels[i] for i in chosen]
        dataset = from_lists(given, [self.predictions[i] for i in chosen])
        dataset.to_zarr(path / "in", mode="w", consolidated=False)
        audit_boxes_zarr(path / "in", path / "stored", **self.options, progress=False, n_jobs=1)
        return path / "stored"


Recorded = Examples | Boxes


def make(kind: str, num_items: int = 24, seed: int = 0) -> Recorded:
    """Return boxes; or examples of whose records facts are enough, or that need rows."""
    if kind == "boxes":
        return Boxes(*make_lists(seed, num_items, 3))
    labels, probs = make_examples(seed, num_items)
    adjusted = {"method": "normalized_margin", "adjust_pred_probs": True}
    return Examples(labels, probs, adjusted if kind == "rows" else {})


def record(output: Path, data: Recorded, *batches: Sequence[int], **arguments: Any) -> None:
    """Put batches on record, by one inspector."""
    with data.inspector(output, **arguments) as inspector:
        for items in batches or (range(len(data.ids)),):
            data.put(inspector, items)


def finish(output: Path, **arguments: Any) -> Any:
    return finish_audit(output, **{"progress": False, "n_jobs": 1, **arguments})


def same_answers(output: Path, expected: Path) -> xr.Dataset:
    """Compare an output with that of a stored run, bit by bit, but for where its inputs are."""
    found, wanted = xr.open_zarr(output).load(), xr.open_zarr(expected).load()
    assert set(found.data_vars) == set(wanted.data_vars)
    for name, variable in wanted.data_vars.items():
        assert (found[name].dims, found[name].dtype) == (variable.dims, variable.dtype), name
        assert found[name].values.tobytes() == variable.values.tobytes(), name
    place = ("fingerprint", "inputs", "num_objects")
    ours, theirs = ({n: v for n, v in d.attrs.items() if n not in place} for d in (found, wanted))
    assert ours == theirs
    return found
