"""The state of an inspector of two passes, in a file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from dask_labelqc.classification.statistics import ExampleStatistics, IssueCounts
from dask_labelqc.errors import InputError
from dask_labelqc.typing import AnyArray, Floats

__all__ = ["SavedState"]


@dataclass(frozen=True)
class SavedState:
    """What is known of the examples that were seen.

    Attributes
    ----------
    settings
        Arguments of the inspector, as plain values; ``num_class`` and ``store_results`` are among
        them.
    parts
        What each part of the first pass has learned, by id.
    counts, num_scored
        Of the second pass.
    scores
        Of all examples, if they are stored.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, ExampleStatistics]
    counts: IssueCounts
    num_scored: int
    scores: Floats

    def write(self, path: str | Path) -> None:
        """Write it to a file."""
        parts = list(self.parts.values())
        shape = len(parts), int(self.settings["num_class"])
        class_sum = np.array([[str(t) for t in p.class_sum] for p in parts], str)
        with Path(path).open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                settings=np.array(json.dumps(self.settings)),
                parts=np.array([*self.parts], str),
                class_sum=class_sum.reshape(shape),
                class_count=np.array([p.class_count for p in parts], np.int64).reshape(shape),
                counts=np.stack(list(vars(self.counts).values())),
                num_scored=np.array(self.num_scored),
                scores=self.scores,
            )

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read it from a file.

        Raises
        ------
        InputError
            The file does not hold one.
        """
        try:
            with Path(path).open("rb") as file:  # which NumPy leaves open where it is cut off
                stored = np.load(file, allow_pickle=False)
                if isinstance(stored, np.ndarray):
                    raise ValueError("it is a file of one array")
                arrays = {name: stored[name] for name in stored.files}
            return cls._of(arrays)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"path: {str(path)!r} holds no LabelInspector: {error}") from error

    @classmethod
    def _of(cls, arrays: Mapping[str, AnyArray]) -> Self:
        settings = json.loads(str(arrays["settings"]))
        _check(arrays, int(settings["num_class"]), bool(settings["store_results"]))
        parts = {
            str(part): ExampleStatistics(np.array([int(text) for text in total], object), count)
            for part, total, count in zip(
                arrays["parts"], arrays["class_sum"], arrays["class_count"], strict=True
            )
        }
        scored = int(arrays["num_scored"])
        return cls(settings, parts, IssueCounts(*arrays["counts"]), scored, arrays["scores"])


def _check(arrays: Mapping[str, AnyArray], num_class: int, store_results: bool) -> None:
    """Raise ValueError if arrays do not fit one another and the settings."""
    scored = int(arrays["num_scored"])
    shapes = {
        "class_sum": (arrays["parts"].size, num_class),
        "class_count": (arrays["parts"].size, num_class),
        "counts": (3, num_class),
        "scores": (scored if store_results else 0,),
    }
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, not {shape}")
        counts = name.endswith(("count", "counts"))
        if counts and (array.dtype.kind != "i" or array.min(initial=0) < 0):
            raise ValueError(f"{name} are no counts")
