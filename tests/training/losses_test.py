"""The losses by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from pose2seg_jax.prediction import network
from pose2seg_jax.training import losses


def test_loss_and_scores_by_hand():
    logits = jnp.zeros((2, 2, 2))
    targets = jnp.asarray([[[1.0, 0.0], [0.5, 0.25]], [[9, 9], [9, 9]]])
    loss = losses.mask_loss(logits, targets, np.array([True, False]))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    with_dice = losses.mask_loss(logits, targets, np.array([True, False]), dice=0.5)
    dice = 2 * 0.5 * 1.75 / (4 * 0.25 + 1.3125)
    np.testing.assert_allclose(with_dice, np.log(2) + 0.5 * (1 - dice), rtol=1e-6)
    with_edges = losses.mask_loss(logits, targets, np.array([True, False]), edges=0.5)
    np.testing.assert_allclose(with_edges, 1.5 * np.log(2), rtol=1e-6)
    scores = network.mask_score(jnp.asarray([[[0.9, 0.7], [0.2, 0.1]], [[0.1] * 2] * 2]))
    np.testing.assert_allclose(scores, [1.6 / 2.3, 0.0], rtol=1e-6)
    iou = losses.mask_iou(
        jnp.asarray([[[1.0, 1.0], [-1.0, -1.0]]]), jnp.asarray([[[1.0, 0.0], [1.0, 0.0]]])
    )
    np.testing.assert_allclose(iou, [1 / 3], rtol=1e-6)


@pytest.mark.parametrize("cells", [1, 2])
def test_an_edge_is_what_a_dilation_adds_and_an_erosion_takes(cells):
    rng = np.random.RandomState(0)
    person = ndimage.gaussian_filter(rng.rand(2, 24, 24), (0, 3, 3)) > 0.5
    person[:, :, :6] = True  # also to the border
    square = np.ones((1, 2 * cells + 1, 2 * cells + 1))
    near = ndimage.binary_dilation(person, square) & ndimage.binary_dilation(~person, square)
    found = losses.near_edge(jnp.asarray(person, jnp.float32), cells)
    np.testing.assert_array_equal(found, near)
    assert 0 < near.mean() < 1


def test_the_loss_of_edges_looks_at_edges_only():
    targets = np.zeros((1, 16, 16), np.float32)
    targets[:, :, 8:] = 1

    def loss(column):
        logits = np.where(targets > 0, 9.0, -9.0).astype(np.float32)
        logits[:, :, column] *= -1
        both = (
            losses.mask_loss(jnp.asarray(logits), targets, np.array([True]), edges=weight)
            for weight in (1.0, 0.0)
        )
        return float(jnp.subtract(*both))

    assert loss(9) > 2  # one of four columns near the edge is wrong, by 9
    assert loss(12) < 1e-3


def test_the_dice_loss_is_least_where_probabilities_are_the_shares():
    targets = jnp.asarray([[[1.0, 0.7], [0.3, 0.0]]])
    valid = np.array([True])

    def dice(shares):
        logits = jnp.log(shares) - jnp.log1p(-shares)
        both = (losses.mask_loss(logits, targets, valid, weight) for weight in (1.0, 0.0))
        return float(jnp.subtract(*both))

    shares = jnp.clip(targets, 1e-6, 1 - 1e-6)
    assert dice(shares) < 1e-5
    assert all(dice(jnp.clip(shares + step, 1e-6, 1 - 1e-6)) > 1e-3 for step in (-0.1, 0.1))
