from __future__ import annotations

import numpy as np

from dask_labelqc.demo.predictions import predict
from dask_labelqc.demo.scenes import (
    CLASS_COLORS,
    CLASS_NAMES,
    NEAR_CLASSES,
    compose_scene,
    image_streams,
    render_labels,
)


def draw(seed: int, index: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    scene_stream, _, model = image_streams(seed, index)
    scene = compose_scene(scene_stream)
    return render_labels(scene, size), predict(scene, size, model)


def test_twelve_classes_are_described_in_full() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(set(CLASS_COLORS)) == 12
    assert set(NEAR_CLASSES) == set(range(12))
    assert all(k not in near for k, near in NEAR_CLASSES.items())


def test_the_same_seed_and_index_give_the_same_bytes() -> None:
    for first, second in zip(draw(1, 5), draw(1, 5), strict=True):
        assert first.tobytes() == second.tobytes()


def test_seed_and_index_both_matter() -> None:
    labels = draw(1, 5)[0]
    assert (labels != draw(1, 6)[0]).any()
    assert (labels != draw(2, 5)[0]).any()


def test_scenes_cover_the_image_with_things_of_many_sizes() -> None:
    scenes = [compose_scene(image_streams(0, index)[0]) for index in range(4)]
    heights = [np.ptp(np.concatenate(thing.parts)[:, 1]) for scene in scenes for thing in scene]
    assert min(heights) < 0.02
    assert max(heights) > 0.5
    labels = np.stack([render_labels(scene, 128) for scene in scenes])
    assert set(np.unique(labels)) == set(range(12))


def test_probabilities_sum_to_one() -> None:
    pred_probs = draw(0, 0, size=65)[1]
    assert pred_probs.shape == (12, 65, 65)
    assert pred_probs.dtype == np.float32
    assert pred_probs.min() >= 0
    np.testing.assert_allclose(pred_probs.sum(axis=0, dtype=np.float64), 1, atol=1e-6)


def test_the_model_is_good_and_not_perfect() -> None:
    labels, pred_probs = zip(*(draw(0, index, size=256) for index in range(4)), strict=True)
    true, probs = np.stack(labels), np.stack(pred_probs)
    right = probs.argmax(axis=1) == true
    assert 0.93 < right.mean() < 0.99
    sure = probs.max(axis=1)
    assert np.median(sure[right]) > 0.9
    assert 0.4 < sure[~right].mean() < 0.8
