"""Summaries and pictures of label issues; the module path of ``cleanlab.segmentation.summary``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dask_labelqc.errors import InputError
from dask_labelqc.segmentation.arguments import Dims
from dask_labelqc.segmentation.drawing import draw_images
from dask_labelqc.segmentation.flagged import normalize_flagged
from dask_labelqc.storage.alignment import ClassDim, ImageDim
from dask_labelqc.storage.arrays import open_array, siblings
from dask_labelqc.storage.class_names import class_names as names_in
from dask_labelqc.storage.class_names import names_of_audit
from dask_labelqc.storage.containers import ArrayLike, ImageList, LazyArray, PlainArray
from dask_labelqc.typing import BoolArray, Ints

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["common_label_issues", "display_issues", "filter_by_class"]

TOP = 20
"""How many images or pairs of classes there are by default."""


def display_issues(
    issues: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    exclude: Sequence[int] | None = None,
    top: int | None = None,
    image_ids: Sequence[Any] | None = None,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
    **kwargs: Any,
) -> list[Figure]:
    """Draw the images with the most label issues, the issues in red.

    Of `labels` and `pred_probs` only the images shown are read. The issues are read once, to see
    which images these are.

    Parameters
    ----------
    issues
        Boolean mask (N, H, W): NumPy, Zarr, Dask or xarray; or a list of masks of different sizes,
        and so are the others.
    labels
        Integers (N, H, W): also draw the given labels.
    pred_probs
        (N, K, H, W): also draw the predicted labels.
    class_names
        Name of each class, for a legend.
    exclude
        Given labels whose issues are left out of the pictures; needs `labels`.
    top
        How many images, 20 by default.
    image_ids
        What to call each of the N images; by default what their coordinate in `issues`, `labels` or
        `pred_probs` says, or their number.
    image_dim, class_dim
        As in `audit`.
    **kwargs
        Passed on to ``matplotlib.pyplot.show``.

    Returns
    -------
    list of matplotlib.figure.Figure
        The legend, if there is one, then one figure for each image, most issues first, ties by
        index.

    Raises
    ------
    InputError
        The arrays or arguments cannot be used.
    ImportError
        Matplotlib is not installed.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> figures = display_issues(np.array([[[True, False]], [[False, False]]]), top=1)
    >>> figures[0].axes[0].get_title()
    'Image 0: label issues (red)'
    """
    excluded = _excluded(exclude)
    if excluded and labels is None:
        raise InputError(f"exclude: got {exclude!r} without labels, which say where these are")
    return draw_images(
        issues,
        labels,
        pred_probs,
        class_names,
        excluded,
        _checked_top(top),
        image_ids,
        image_dim=image_dim,
        class_dim=class_dim,
        **kwargs,
    )


def common_label_issues(
    issues: ArrayLike | str | Path | zarr.Group | xr.Dataset,
    labels: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    exclude: Sequence[int] | None = None,
    top: int | None = None,
    verbose: bool = True,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> pd.DataFrame:
    r"""Count the label issues of each pair of given and predicted class.

    Zarr and Dask arrays are counted block by block on the Dask scheduler in use; the predictions
    are only read where a block has issues. Of an audit only its ``issue_matrix`` is read.

    Agrees with ``cleanlab.segmentation.summary.common_label_issues``.

    Parameters
    ----------
    issues
        Boolean mask (N, \*spatial): NumPy, Zarr, Dask or xarray; or a list of masks of different
        sizes, and so are the others. Or an audit: the path or URL of its output, or its xarray
        Dataset; `labels` and `pred_probs` are left out then.
    labels
        Integers (N, \*spatial). Issues whose label is no class are left out.
    pred_probs
        (N, K, \*spatial): probabilities, or anything that orders as they do.
    class_names
        Name of each class, to be shown in place of its index; by default those of the dataset, if
        it has any.
    exclude
        Predicted classes that are left out.
    top
        How many pairs, 20 by default.
    verbose
        Print a line for each.
    image_dim, class_dim
        As in `audit`.

    Returns
    -------
    pandas.DataFrame
        Columns ``given_label``, ``predicted_label``, ``num_pixel_issues``; most issues first,
        ties by given and then by predicted class.

    Raises
    ------
    InputError
        The arrays or arguments cannot be used.
    ImportError
        pandas is not installed.

    Examples
    --------
    >>> issues = np.array([[[True, False, True]]])
    >>> labels = np.array([[[0, 0, 1]]])
    >>> pred_probs = np.array([[[[0.2, 0.9, 0.7]], [[0.8, 0.1, 0.3]]]])
    >>> common_label_issues(
    ...     issues, labels, pred_probs, class_names=["sky", "road"], verbose=False
    ... )
      given_label predicted_label  num_pixel_issues
    0         sky            road                 1
    1        road             sky                 1
    """
    pandas = _pandas()
    excluded, top = _excluded(exclude), _checked_top(top)
    matrix, found = _issue_matrix(issues, labels, pred_probs, image_dim, class_dim)
    names = _names(class_names, found, len(matrix))
    matrix[:, [k for k in excluded if k < len(matrix)]] = 0
    given, predicted = np.nonzero(matrix)
    counts = matrix[given, predicted]
    order = np.argsort(-counts, kind="stable")[:top]
    rows = [[names[given[i]], names[predicted[i]], counts[i]] for i in order]
    if verbose:
        for given_name, predicted_name, count in rows:
            sys.stdout.write(
                f"{count} pixels labelled {given_name!r} are predicted to be {predicted_name!r}\n"
            )
    columns = ["given_label", "predicted_label", "num_pixel_issues"]
    table: pd.DataFrame = pandas.DataFrame(rows, columns=columns)
    return table


@overload
def filter_by_class(
    class_index: int | Sequence[int],
    issues: xr.DataArray,
    labels: ArrayLike,
    pred_probs: ArrayLike,
    **dims: Unpack[Dims],
) -> xr.DataArray: ...


@overload
def filter_by_class(
    class_index: int | Sequence[int],
    issues: ImageList,
    labels: ImageList,
    pred_probs: ImageList,
    **dims: Unpack[Dims],
) -> BoolArray | list[BoolArray]: ...


@overload
def filter_by_class(
    class_index: int | Sequence[int],
    issues: PlainArray,
    labels: PlainArray,
    pred_probs: PlainArray,
    **dims: Unpack[Dims],
) -> BoolArray: ...


@overload
def filter_by_class(
    class_index: int | Sequence[int],
    issues: LazyArray,
    labels: ArrayLike,
    pred_probs: ArrayLike,
    **dims: Unpack[Dims],
) -> da.Array: ...


@overload
def filter_by_class(
    class_index: int | Sequence[int],
    issues: PlainArray,
    labels: ArrayLike,
    pred_probs: ArrayLike,
    **dims: Unpack[Dims],
) -> BoolArray | da.Array: ...


def filter_by_class(
    class_index: int | Sequence[int],
    issues: ArrayLike,
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    image_dim: ImageDim = None,
    class_dim: ClassDim = None,
) -> BoolArray | list[BoolArray] | da.Array | xr.DataArray:
    r"""Return the label issues whose given or predicted class is a certain one.

    Agrees with ``cleanlab.segmentation.summary.filter_by_class``.

    Parameters
    ----------
    class_index
        The class, or several.
    issues, labels, pred_probs
        As in `common_label_issues`. Where dimensions have names or an index, the labels and
        predictions are put in the order of the issues.
    image_dim, class_dim
        As in `audit`.

    Returns
    -------
    mask
        Boolean (N, \*spatial): NumPy if all inputs are, otherwise a lazy Dask array; an
        xarray.DataArray if `issues` are one; a list of lists of images of different sizes.

    Raises
    ------
    InputError
        The arrays or arguments cannot be used.

    Examples
    --------
    >>> issues = np.array([[[True, True, True]]])
    >>> labels = np.array([[[0, 0, 1]]])
    >>> pred_probs = np.array([[[[0.2, 0.1, 0.7]], [[0.8, 0.0, 0.3]], [[0.0, 0.9, 0.0]]]])
    >>> filter_by_class(1, issues, labels, pred_probs)
    array([[[ True, False,  True]]])
    """
    flagged: Any = normalize_flagged(
        issues, labels, pred_probs, image_dim=image_dim, class_dim=class_dim
    )
    wanted = np.zeros(flagged.num_classes, np.bool_)
    for k in np.atleast_1d(np.asarray(class_index)).tolist():
        if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < wanted.size:
            raise InputError(f"class_index: got {k!r}, it must be in 0..{wanted.size - 1}")
        wanted[k] = True
    mask: BoolArray | list[BoolArray] | da.Array = flagged.of_class(wanted)
    return issues.copy(data=mask) if isinstance(issues, xr.DataArray) else mask


def _issue_matrix(
    issues: ArrayLike | str | Path | zarr.Group | xr.Dataset,
    labels: ArrayLike | None,
    pred_probs: ArrayLike | None,
    image_dim: ImageDim,
    class_dim: ClassDim,
) -> tuple[Ints, dict[int, str]]:
    """Return the issues of each pair of classes, int64 (K, K), and the dataset's names of these."""
    if not isinstance(issues, str | Path | zarr.Group | xr.Dataset):
        for name, array in (("labels", labels), ("pred_probs", pred_probs)):
            if array is None:
                raise InputError(f"{name}: got None, it must be given with an array of issues")
        flagged = normalize_flagged(
            issues, labels, pred_probs, image_dim=image_dim, class_dim=class_dim
        )
        return flagged.matrix(), names_in(labels, pred_probs)
    if labels is not None or pred_probs is not None:
        raise InputError(
            "labels, pred_probs: got arrays beside an audit, which has what it takes; leave them "
            "out"
        )
    if isinstance(issues, str | Path):
        array = open_array(f"{str(issues).rstrip('/')}/issue_matrix", "issues")
        audit = siblings(array)
        return np.array(array[:], np.int64), {} if audit is None else names_of_audit(audit)
    if "issue_matrix" not in issues:
        raise InputError(f"issues: got {type(issues).__name__} without issue_matrix, no audit")
    stored: Any = issues["issue_matrix"]
    stored = stored[:] if isinstance(stored, zarr.Array) else stored.values
    return np.array(stored, np.int64), names_of_audit(issues)


def _names(
    class_names: Sequence[str] | None, found: dict[int, str], num_classes: int
) -> Sequence[str]:
    if class_names is None:
        return [found.get(k, str(k)) for k in range(num_classes)]
    if len(class_names) < num_classes:
        raise InputError(
            f"class_names: got {len(class_names)} of them, there are {num_classes} classes"
        )
    return class_names


def _excluded(exclude: Sequence[int] | None) -> tuple[int, ...]:
    classes = () if exclude is None else tuple(np.atleast_1d(np.asarray(exclude)).tolist())
    for k in classes:
        if isinstance(k, bool) or not isinstance(k, int) or k < 0:
            raise InputError(f"exclude: got {k!r}, it must hold classes, integers from 0 up")
    return classes


def _checked_top(top: int | None) -> int:
    if top is None:
        return TOP
    if isinstance(top, bool) or not isinstance(top, int | np.integer) or top < 0:
        raise InputError(f"top: got {top!r}, it must be an integer of 0 or more")
    return int(top)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError('tables need pandas: pip install "dask-labelqc[plot]"') from error
    return pandas
