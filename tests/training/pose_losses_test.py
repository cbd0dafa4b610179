"""The losses of Associative Embedding against their formulas, in plain NumPy and float64."""

import jax
import numpy as np
import pytest

from pose2seg_jax.models.pose_head import PartMaps
from pose2seg_jax.training import pose_losses

_CELLS = 12


def _persons(rng, counts, slots=5):
    """Poses of so many people an image, a third of the parts not labelled."""
    poses = np.zeros((len(counts), slots, 17, 3), np.float32)
    for b, count in enumerate(counts):
        for q in rng.permutation(slots)[:count]:
            poses[b, q, :, :2] = rng.uniform(0, _CELLS, (17, 2))
            poses[b, q, :, 2] = rng.choice([0, 1, 2], 17)
    poses[poses[..., 2] == 0] = 0
    return poses


def _expected_heatmaps(poses):
    target = np.zeros((len(poses), _CELLS, _CELLS, 17))
    for b, q, p in np.argwhere(poses[..., 2] > 0):
        x, y = poses[b, q, p, :2].astype(np.float64)
        for i, j in np.ndindex(_CELLS, _CELLS):
            value = np.exp(-((j + 0.5 - x) ** 2 + (i + 0.5 - y) ** 2) / (2 * 2.0**2))
            target[b, i, j, p] = max(target[b, i, j, p], value)
    return target


def _expected_tag_losses(tags, poses):
    pull = push = 0.0
    for of_image, persons in zip(tags.astype(np.float64), poses, strict=True):
        means, spreads = [], []
        for person in persons:
            own = [
                of_image[min(int(y), _CELLS - 1), min(int(x), _CELLS - 1), p]
                for p, (x, y, v) in enumerate(person)
                if v > 0
            ]
            if own:
                means.append(np.mean(own))
                spreads.append(np.mean((np.asarray(own) - np.mean(own)) ** 2))
        if means:
            pull += np.mean(spreads)
        if len(means) > 1:
            pairs = [
                np.exp(-((a - b) ** 2))
                for i, a in enumerate(means)
                for j, b in enumerate(means)
                if i != j
            ]
            push += 0.5 * np.mean(pairs)
    return pull, push


@pytest.mark.parametrize("counts", [(3, 5, 0), (1, 0, 2)])
def test_losses_are_the_formulas(counts):
    rng = np.random.default_rng(sum(counts))
    poses = _persons(rng, counts)
    maps = rng.normal(size=(2, len(counts), _CELLS, _CELLS, 17)).astype(np.float32)
    ignored = rng.random((len(counts), _CELLS, _CELLS)) < 0.2
    found = pose_losses.pose_losses(PartMaps(*maps), poses, ignored, 2.0)
    squared = (maps[0] - _expected_heatmaps(poses)) ** 2 * ~ignored[..., None]
    np.testing.assert_allclose(found.detection, squared.mean(axis=(1, 2, 3)).sum(), rtol=1e-5)
    pull, push = _expected_tag_losses(maps[1], poses)
    np.testing.assert_allclose(found.pull, pull, rtol=1e-5)
    np.testing.assert_allclose(found.push, push, rtol=1e-5)
    expected = found.detection + 1e-3 * pull + 1e-3 * push
    np.testing.assert_allclose(found.weighted(1e-3), expected, rtol=1e-5)


def test_gradient_is_that_of_differences_in_float64():
    rng = np.random.default_rng(0)
    poses = _persons(rng, (2, 3))
    ignored = rng.random((2, _CELLS, _CELLS)) < 0.1
    with jax.enable_x64(True):
        maps = rng.normal(size=(2, 2, _CELLS, _CELLS, 17))

        def loss(maps):
            found = pose_losses.pose_losses(PartMaps(*maps), poses, ignored, 2.0)
            return found.detection + found.pull + found.push

        direction = rng.normal(size=maps.shape)
        slope = np.sum(np.asarray(jax.grad(loss)(maps)) * direction)
        step = 1e-5
        differences = (loss(maps + step * direction) - loss(maps - step * direction)) / (2 * step)
        np.testing.assert_allclose(slope, differences, rtol=1e-6)


def test_nobody_and_nothing_known_give_no_tag_loss_and_finite_gradients():
    poses = np.zeros((1, 4, 17, 3), np.float32)
    ignored = np.ones((1, _CELLS, _CELLS), bool)
    maps = np.zeros((2, 1, _CELLS, _CELLS, 17), np.float32)
    loss, grads = jax.value_and_grad(
        lambda maps: pose_losses.pose_losses(PartMaps(*maps), poses, ignored, 2.0).weighted(1e-3)
    )(maps)
    assert loss == 0
    assert np.all(np.asarray(grads) == 0)
