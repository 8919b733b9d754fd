"""Arrays of any framework as NumPy arrays."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dask_labelqc.devices.arrays import in_memory, pixel_values, to_host
from dask_labelqc.errors import InputError
from tests.devices.frameworks import FRAMEWORKS, differentiable

NUMBERS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("make", [*FRAMEWORKS.values(), differentiable], ids=[*FRAMEWORKS, "grad"])
def test_what_lies_in_memory_is_seen_as_numpy(make: Any) -> None:
    found = in_memory(make(NUMBERS))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, NUMBERS)


def test_it_is_not_copied() -> None:
    for array in (NUMBERS, torch.from_numpy(NUMBERS)):
        found = in_memory(array)
        assert found is not None
        assert np.shares_memory(found, NUMBERS)
    there = jnp.asarray(NUMBERS)
    assert np.shares_memory(to_host(there), to_host(there))


def test_what_speaks_dlpack_alone() -> None:
    class Exporting:
        dtype = NUMBERS.dtype
        device_kind = 1

        def __dlpack__(self, **arguments: Any) -> Any:
            return NUMBERS.__dlpack__(**arguments)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.device_kind, 0

    np.testing.assert_array_equal(in_memory(Exporting()), NUMBERS)
    Exporting.device_kind = 2
    with pytest.raises(InputError, match=r"pred_probs: got Exporting on a device, which speaks DL"):
        in_memory(Exporting())


@pytest.mark.parametrize("made", [[[0.5]], "probs", None, 0.5])
def test_what_is_no_array_is_refused(made: Any) -> None:
    with pytest.raises(InputError, match=rf"pred_probs: got {type(made).__name__}, it must be an"):
        in_memory(made)


@pytest.mark.parametrize(
    "made", [torch.tensor(NUMBERS).bfloat16(), jnp.asarray(NUMBERS).astype("bfloat16")]
)
def test_bfloat16_becomes_float32(made: Any) -> None:
    found = in_memory(made)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, NUMBERS)


@pytest.mark.parametrize("make", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_the_values_of_a_pixel(make: Any) -> None:
    array = make(NUMBERS)
    assert pixel_values(array, 1, (2,)).tolist() == NUMBERS[1, :, 2].tolist()
    assert pixel_values(array, 1, (2,), -1).tolist() == NUMBERS[1, 2].tolist()
