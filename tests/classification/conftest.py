"""Datasets of examples to find label issues in."""

from __future__ import annotations

import numpy as np
import pytest

from tests.classification.examples import draw_examples


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray]:
    return draw_examples(num_examples=3000, num_classes=12, dtype=np.float32)
