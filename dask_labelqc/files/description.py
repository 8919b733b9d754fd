"""What is in files, of which a few are read: before an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from dask_labelqc.errors import InputError
from dask_labelqc.files.reader import Form, Reader, name_shape
from dask_labelqc.typing import AnyArray, Shape

__all__ = ["describe"]

SAMPLE = 16
"""Images of which the values are looked at."""
SHOWN = 20


def describe(reader: Reader) -> dict[str, str]:
    """Return how many images there are, their sizes, and the values of a sample, as text by name.

    Parameters
    ----------
    reader
        Of labels or predictions.

    Returns
    -------
    dict
        What an audit would find: images, and values of some of them.

    Examples
    --------
    >>> class Squares:
    ...     ids = ["a", "b"]
    ...
    ...     def read(self, id):
    ...         return np.eye(2, dtype=np.uint8)
    >>> from dask_labelqc.files.reader import OwnReader
    >>> describe(OwnReader(Squares(), "labels"))
    {'labels': '2 images of 2 x 2', 'values of labels': '0, 1, in 2 images'}
    """
    side, forms = reader.side, list(reader.forms(reader.ids))
    bad = [form for form in forms if isinstance(form, InputError)]
    known = [form for form in forms if isinstance(form, Form)]
    rows = {side: f"{len(forms):,} images of {_sizes([form.shape for form in known])}"}
    if bad:
        rows[f"damaged {side}"] = f"{len(bad):,}: {bad[0].message}"
    step = max(len(forms) // SAMPLE, 1)
    sample: list[AnyArray] = []
    for id, form in islice(zip(reader.ids, forms, strict=True), 0, None, step):
        if isinstance(form, Form) and len(sample) < SAMPLE:
            try:
                sample.append(reader.read(id))
            except InputError as error:
                rows.setdefault(f"damaged {side}", error.message)
    values = _classes if side == "labels" else _predicted
    return rows | {f"values of {side}": f"{values(sample, reader.class_names)}, in {_many(sample)}"}


def _many(sample: Sequence[AnyArray]) -> str:
    return "1 image" if len(sample) == 1 else f"{len(sample)} images"


def _sizes(shapes: Sequence[Shape]) -> str:
    counted = Counter(shapes)
    if not counted:
        return "no size that is known"
    if len(counted) == 1:
        return name_shape(shapes[0])
    ordered = sorted(counted, key=lambda shape: (int(np.prod(shape)), shape))
    return f"{len(counted)} sizes, {name_shape(ordered[0])} to {name_shape(ordered[-1])}"


def _classes(sample: Sequence[AnyArray], names: Mapping[int, str]) -> str:
    found = sorted({value.item() for image in sample for value in np.unique(image)})
    named = [f"{value} {names[value]}" if value in names else str(value) for value in found]
    return ", ".join(named[:SHOWN]) + (", ..." if len(named) > SHOWN else "")


def _predicted(sample: Sequence[AnyArray], names: Mapping[int, str]) -> str:
    if not sample:
        return "none"
    lowest, highest = min(p.min() for p in sample), max(p.max() for p in sample)
    dtypes = ", ".join(sorted({str(p.dtype) for p in sample}))
    return f"{dtypes} of {lowest:.4g} to {highest:.4g}"
