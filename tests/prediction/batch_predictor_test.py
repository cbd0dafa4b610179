"""Many images at once, on all devices."""

import jax
import numpy as np
import pytest
from conftest import tiny_weights

from pose2seg_jax.prediction.batch_predictor import BatchPredictor, Persons
from pose2seg_jax.prediction.network import Network


@pytest.mark.usefixtures("quick_compile")
def test_images_without_and_with_many_persons_lose_nothing():
    made = tiny_weights()
    variables, predictor = made.variables, BatchPredictor(Network(made.spec), 4)
    rng = np.random.RandomState(0)
    devices = jax.local_device_count()
    images = rng.randint(0, 255, (devices, 1, 64, 64, 3)).astype(np.uint8)
    poses = (np.abs(rng.randn(7, 17, 3)) * [20, 20, 1] + [5, 5, 1]).astype(np.float32)
    nobody = Persons(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4), np.float32))
    rest = [[nobody]] * (devices - 1)
    sizes = np.full((devices, 1, 2), 100)
    results = predictor.start(
        variables, images, [[Persons(poses, np.zeros((7, 4)))], *rest], sizes
    )()
    assert [len(row[0]) for row in results] == [7] + [0] * (devices - 1)
    assert results[0][0].masks.shape == (7, 100, 100)
    # One at a time gives the same.
    alone = predictor.start(
        variables, images, [[Persons(poses[3:4], np.zeros((1, 4)))], *rest], sizes
    )()
    np.testing.assert_allclose(alone[0][0].scores, results[0][0].scores[3:4], atol=1e-5)
    assert [
        len(row[0]) for row in predictor.start(variables, images, [[nobody], *rest], sizes)()
    ] == [0] * devices
