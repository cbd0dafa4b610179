"""A predictor of a tiny network, and what it is asked."""

import numpy as np
import pytest
from conftest import standing_pose, tiny_weights

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.weights.files import Weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    return tiny_weights()


@pytest.fixture(scope="module")
def predictor(weights) -> Pose2SegPredictor:
    """Predicts each person as if nobody else were there, so that persons can be compared one by one."""
    return Pose2SegPredictor.from_weights(weights, exclusive=False)


def noise_image(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 255, (height, width, 3)).astype(np.uint8)


def standing_poses(count, height=100, seed=0):
    rng = np.random.RandomState(seed)
    return np.stack(
        [standing_pose(*rng.uniform(0, height / 4, 2), height * 0.7) for _ in range(count)]
    )
