"""Arrays in any containers, opened and lined up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_labelqc.storage.alignment import ClassDim, ImageDim, Lineup, line_up
from dask_labelqc.storage.containers import plain_array
from dask_labelqc.storage.dimensions import describe

__all__ = ["lined_up"]


def lined_up(
    pixels: Mapping[str, Any], pred_probs: Any, image_dim: ImageDim, class_dim: ClassDim
) -> tuple[list[Any], Lineup]:
    """Return plain arrays, the predictions last, and how they line up.

    Parameters
    ----------
    pixels
        Labels, or a mask and labels, by name of the argument.
    pred_probs, image_dim, class_dim
        Of the call.

    Raises
    ------
    InputError
        They cannot be used, or not together; naming the argument.
    """
    named = {**pixels, "pred_probs": pred_probs}
    arrays = [plain_array(array, name) for name, array in named.items()]
    described = [describe(array, name) for name, array in named.items()]
    lineup = line_up(described[:-1], described[-1], image_dim=image_dim, class_dim=class_dim)
    return arrays, lineup
