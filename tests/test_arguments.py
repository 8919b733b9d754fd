from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from dask_labelqc.arguments import check_flag, number_of_threads, positive_integer
from dask_labelqc.errors import InputError


@pytest.mark.parametrize("value", [1, 7, np.int16(7)])
def test_a_positive_integer_is_one_of_python(value: Any) -> None:
    found = positive_integer("batch_size", value)
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2", None])
def test_what_is_none_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=f"batch_size: got {value!r}, it must be an integer of 1"):
        positive_integer("batch_size", value)


def test_threads() -> None:
    assert number_of_threads(None) == os.cpu_count()
    assert number_of_threads(np.int64(3)) == 3
    with pytest.raises(InputError, match="n_jobs: got 0"):
        number_of_threads(0)


@pytest.mark.parametrize("value", [True, False, 0, 1, np.True_])
def test_flags(value: Any) -> None:
    check_flag("verbose", value)


@pytest.mark.parametrize("value", [2, None, "yes", 0.5])
def test_what_is_no_flag_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"verbose: got .* it must be True or False"):
        check_flag("verbose", value)
