"""An audit of boxes inside the loop that predicts: the boxes of images, put on record."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dask_labelqc.arguments import (
    check_flag,
    names_of_classes,
    number_of_classes,
    positive_integer,
    texts_of_ids,
)
from dask_labelqc.inspectors.recording import Recording
from dask_labelqc.object_detection.batches import GivenBoxes, PredictedBoxes, block_of
from dask_labelqc.object_detection.options import BoxScoreOptions
from dask_labelqc.object_detection.recorded import recorded_boxes
from dask_labelqc.storage.columns import Columns
from dask_labelqc.storage.recorder import Recorder, check_repeated

__all__ = ["BOXES", "BOX_FORM", "DetectionInspector"]

BOX_FORM = 1
"""Of the records; those of another form say something else by the same names."""
BOXES = "boxes"
FLUSH_BYTES = 64 * 2**20
FLUSH_IMAGES = 4096


class DetectionInspector(Recording):
    """Audit the boxes of images while a model predicts.

    What the audit needs of an image is its boxes, given and predicted: 16 bytes for each, and its
    class and score, before they are packed. `update` puts those of many images into the output as
    one object. Any number of inspectors, in any processes, may write to one output. `finish_audit`
    makes the audit of all images, the same that `audit_boxes_zarr` makes of the same boxes.

    Parameters
    ----------
    output
        Path or URL of the output to make.
    num_classes
        K; labels are 0..K-1. That of torchvision's models counts the background, 0, too.
    class_names
        Of the K classes, or of some by their number.
    aggregation_weights, overlapping_label_check, alpha, low_probability_threshold
        As in `audit_boxes_zarr`.
    high_probability_threshold, temperature
        As in `audit_boxes_zarr`.
    flush_bytes, flush_images
        How much may wait to be put on record, which is what is lost if the process is killed.
    storage_options
        Of the store that the URL names, as in `dask_labelqc.storage.stores.open_store`.

    Raises
    ------
    InputError
        An argument cannot be used.
    OutputError
        The output is there and is something else, or its records were made with other parameters.

    See Also
    --------
    dask_labelqc.finish_audit, dask_labelqc.audit_boxes_zarr

    Notes
    -----
    Threads may share an inspector. A copy of it, in a process that was forked or by pickle, is a
    writer of its own that has nothing waiting.

    Examples
    --------
    >>> import tempfile
    >>> given = [{"boxes": [[10, 10, 50, 50]], "labels": [1]}]
    >>> predicted = [{"boxes": [[11, 10, 50, 51]], "labels": [1], "scores": [0.9]}]
    >>> with DetectionInspector(tempfile.mkdtemp(), num_classes=2) as inspector:
    ...     inspector.update(["street_7"], given, predicted)
    ...     inspector.missing(["street_7", "street_8"])
    ['street_8']
    """

    def __init__(
        self,
        output: str | Path,
        num_classes: int,
        *,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        aggregation_weights: Mapping[str, float] | None = None,
        overlapping_label_check: bool = True,
        alpha: float | None = 0.9,
        low_probability_threshold: float | None = 0.5,
        high_probability_threshold: float | None = 0.95,
        temperature: float | None = 0.1,
        flush_bytes: int = FLUSH_BYTES,
        flush_images: int = FLUSH_IMAGES,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_classes = number_of_classes("num_classes", num_classes, least=1)
        names = names_of_classes(class_names, self.num_classes)
        check_flag("overlapping_label_check", overlapping_label_check)
        options = BoxScoreOptions.given(
            weights=aggregation_weights,
            overlapping_label_check=bool(overlapping_label_check),
            alpha=alpha,
            low_probability_threshold=low_probability_threshold,
            high_probability_threshold=high_probability_threshold,
            temperature=temperature,
        )
        self._recorder: Recorder[Columns] = Recorder(
            output,
            {
                "form": BOX_FORM,
                "what": BOXES,
                "num_classes": self.num_classes,
                "class_names": {str(k): name for k, name in names.items()},
                **_plain(options),
            },
            flush_items=positive_integer("flush_images", flush_images),
            flush_bytes=flush_bytes,
            storage_options=storage_options,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied: a copy writes records of its own."""
        return {**vars(self), "_recorder": copy.copy(self._recorder)}

    def update(self, ids: Any, given: GivenBoxes, predicted: PredictedBoxes) -> None:
        """Take in the given and the predicted boxes of some images.

        Boxes are x1, y1, x2, y2 in pixels (not width and height). Arrays may be those of any
        framework, on any device.

        Parameters
        ----------
        ids
            Of n images, texts or whole numbers; an image of which the same is known already counts
            once.
        given
            Of each image, as torchvision's targets: ``{"boxes": (L, 4), "labels": (L,)}``, and
            ``"iscrowd"`` if crowds are among them; or an array (L, 5): box and label.
        predicted
            Of each image, as torchvision's detections: ``{"boxes": (M, 4), "labels": (M,),
            "scores": (M,)}``; or an array (M, 6): box, score and label; or K arrays (M, 5), one for
            each class: box and score.

        Raises
        ------
        InputError
            The batch cannot be used, and nothing of it is taken in; the message names the image.
        StoreError, OutputError
            The records that were due cannot be written; they are kept, and tried again.
        """
        self._recorder.check_open()
        names = texts_of_ids(ids)
        block = block_of(names, given, predicted, self.num_classes)
        if names:
            found = recorded_boxes(names, block, self.num_classes)
            check_repeated([found])
            self._recorder.add(found)


def _plain(options: BoxScoreOptions) -> dict[str, Any]:
    """Return the options as JSON has them."""
    plain: dict[str, Any] = {
        name: value if isinstance(value, bool | Mapping) else float(value)
        for name, value in vars(options).items()
    }
    return plain | {"weights": {kind: float(value) for kind, value in options.weights.items()}}
