from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dask_labelqc.kernels.labels import encode_labels
from dask_labelqc.kernels.per_image import tell_apart
from dask_labelqc.kernels.predictions import as_indices, decoding_table
from dask_labelqc.kernels.summary import BlockScan, ScanOptions, scan_block
from tests.strategies import Case, cases


def scanned(case: Case, images: slice, bound: float) -> tuple[BlockScan, np.ndarray]:
    native = np.ascontiguousarray(case.pred_probs[images], case.pred_probs.dtype.newbyteorder("="))
    num_classes = case.pred_probs.shape[1]
    codes = encode_labels(case.labels[images], num_classes, case.ignore_index).codes
    table = decoding_table(native.dtype, None)
    return scan_block(as_indices(native), codes, ScanOptions(bound), table), codes


@given(case=cases(downsampling=False), bound=st.sampled_from([0.25, 0.505, np.inf]))
def test_each_image_is_as_if_it_were_alone(case: Case, bound: float) -> None:
    together, codes = scanned(case, slice(None), bound)
    num_classes, num_images = case.pred_probs.shape[1], len(case.labels)
    found = tell_apart(
        together.dense_score,
        codes.reshape(num_images, -1),
        together.position,
        together.score,
        num_classes,
        0.505,
        bound,
    )
    agreeing = np.split(together.agreeing, np.cumsum(found.kept - found.disagreeing_kept))
    for i in range(num_images):
        alone, its_codes = scanned(case, slice(i, i + 1), bound)
        np.testing.assert_array_equal(found.class_sum[i], alone.class_sum)
        np.testing.assert_array_equal(found.class_count[i], alone.class_count)
        np.testing.assert_array_equal(agreeing[i], alone.agreeing)
        assert found.disagreeing[i] == alone.position.size
        assert found.highest[i] == alone.score.max(initial=0)
        valid = alone.dense_score.reshape(-1)[its_codes.reshape(-1) >= 0].astype(np.float64)
        assert found.below[i] == np.count_nonzero(valid <= 0.505)
    assert not agreeing[-1].size
