"""Labels and predictions of the same images, by their ids."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from dask_labelqc.errors import InputError, LabelQCWarning
from dask_labelqc.files.reader import Reader

__all__ = ["Pairs", "paired"]

SHOWN = 5


@dataclass(frozen=True)
class Pairs:
    """Which images have both.

    Attributes
    ----------
    ids
        Of those, in the order of the labels.
    only_labels, only_pred_probs
        Ids of what has no partner.
    """

    ids: Sequence[str]
    only_labels: Sequence[str] = ()
    only_pred_probs: Sequence[str] = ()

    def told(self) -> list[str]:
        """Return a sentence for each side that has images without a partner."""
        return [
            f"{len(ids):,} of {side} without {other}, "
            f"{', '.join(islice(ids, SHOWN))}{', ...' if len(ids) > SHOWN else ''}"
            for side, other, ids in (
                ("labels", "pred_probs", self.only_labels),
                ("pred_probs", "labels", self.only_pred_probs),
            )
            if ids
        ]


def paired(labels: Reader, pred_probs: Reader) -> Pairs:
    """Make pairs of images that have the same id; one warning lists what has no partner.

    Parameters
    ----------
    labels, pred_probs
        Readers.

    Returns
    -------
    Pairs
        In the order of the labels.

    Raises
    ------
    InputError
        There are none.

    Warns
    -----
    LabelQCWarning
        Some have no partner.
    """
    given, predicted = set(labels.ids), set(pred_probs.ids)
    pairs = Pairs(
        [id for id in labels.ids if id in predicted],
        [id for id in labels.ids if id not in predicted],
        [id for id in pred_probs.ids if id not in given],
    )
    if not pairs.ids:
        raise InputError(
            f"labels, pred_probs: none of {len(given):,} images of labels, such as "
            f"{next(iter(labels.ids), None)!r}, is among {len(predicted):,} of pred_probs, such as "
            f"{next(iter(pred_probs.ids), None)!r}; a pattern says what of a name is the id, such "
            "as 'masks/{id}_mask.png'"
        )
    if told := pairs.told():
        warnings.warn(f"left out: {'; '.join(told)}", LabelQCWarning, stacklevel=2)
    return pairs
