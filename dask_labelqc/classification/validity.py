"""Warn of probabilities that do not sum to one."""

from __future__ import annotations

import warnings

from dask_labelqc.errors import LabelQCWarning

__all__ = ["warn_of_sum"]


def warn_of_sum(worst: tuple[float, int, float], tolerance: float, stacklevel: int = 3) -> bool:
    """Warn, and return True, if the worst sum of probabilities is off by more than allowed.

    Parameters
    ----------
    worst
        (distance from one, example, sum).
    tolerance
        How far from one a sum may be.
    stacklevel
        Of the warning: 3 points to the caller of the public function that calls this.
    """
    deviation, example, total = worst
    if deviation <= tolerance:
        return False
    warnings.warn(
        "pred_probs: the probabilities of an example should sum to 1 (within "
        f"{tolerance:.3g}); the worst sum is {total:.6g} at example {example}",
        LabelQCWarning,
        stacklevel=stacklevel,
    )
    return True
