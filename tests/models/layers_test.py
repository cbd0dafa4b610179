"""Layers against Flax and plain NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from pose2seg_jax.models import layers
from pose2seg_jax.models.layers import (
    BatchNorm,
    depth_to_space,
    max_pool,
    mean_pool,
    shrink,
    space_to_depth,
    upsample_bilinear,
    upsample_nearest,
)


def test_batch_norm_equals_flax():
    x = jnp.asarray(np.random.RandomState(0).randn(4, 5, 6, 7) * 3 + 2, jnp.float32)
    ours, theirs = BatchNorm(), nn.BatchNorm(momentum=0.99)
    variables = ours.init(jax.random.key(0), x, True)
    out, updates = ours.apply(variables, x, True, mutable=["batch_stats"])
    out2, updates2 = theirs.apply(
        theirs.init(jax.random.key(0), x, use_running_average=False),
        x, use_running_average=False, mutable=["batch_stats"],
    )  # fmt: skip
    np.testing.assert_allclose(out, out2, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, updates2)
    valid = np.array([True, False, True, True])
    masked = ours.apply(variables, x, True, valid, mutable=["batch_stats"])[0]
    alone = ours.apply(variables, x[valid], True, mutable=["batch_stats"])[0]
    np.testing.assert_allclose(masked[valid], alone, atol=1e-5)


@pytest.mark.parametrize("channels", [8, 12])
@pytest.mark.parametrize("train", [True, False])
def test_a_bottleneck_upsamples_its_input(channels, train):
    """Behind its 1x1 convolutions it is the same as before them, with a shortcut of its own (8 to 12 channels) and without."""
    x = jnp.asarray(np.random.RandomState(0).randn(2, 6, 6, channels), jnp.float32)
    inside, outside = layers.Bottleneck(3, upsample=upsample_bilinear), layers.Bottleneck(3)
    variables = inside.init(jax.random.key(0), x, True)
    random = np.random.RandomState(1)
    variables = jax.tree.map(
        lambda v: v + 0.1 * np.abs(random.randn(*v.shape)).astype(np.float32), variables
    )
    found, expected = (
        module.apply(variables, values, train, mutable=["batch_stats"])
        for module, values in ((inside, x), (outside, upsample_bilinear(x)))
    )
    assert found[0].shape == (2, 12, 12, 12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("times", [1.0, 2.0, 5 / 3, 640 / 448])
def test_shrinking_is_area_interpolation(times):
    x = np.random.RandomState(0).rand(2, 40, 40, 3).astype(np.float32)
    side = round(40 / times)
    expected = tf.image.resize(x, (side, side), "area").numpy()
    np.testing.assert_allclose(shrink(jnp.asarray(x), side), expected, atol=1e-5)


def test_pooling_and_upsampling():
    x = jnp.asarray(np.random.RandomState(0).randn(2, 6, 8, 3), jnp.float32)
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_allclose(mean_pool(x), nn.avg_pool(x, (2, 2), (2, 2)), rtol=1e-5)
    np.testing.assert_array_equal(
        upsample_nearest(x), np.repeat(np.repeat(np.asarray(x), 2, 1), 2, 2)
    )
    ramp = jnp.broadcast_to(jnp.arange(4.0)[None, None, :, None] + 0.5, (1, 2, 4, 1))
    middle = np.asarray(upsample_bilinear(ramp))[0, 1, 1:-1, 0]
    np.testing.assert_allclose(middle, (np.arange(1, 7) + 0.5) / 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 8), (2, 3), (5, 1), (1, 1)])
def test_upsampling_agrees_with_interpolation(shape):
    x = np.random.RandomState(0).randn(2, *shape, 3).astype(np.float32)
    resized = jax.image.resize(x, (2, *(2 * side for side in shape), 3), "bilinear")
    np.testing.assert_allclose(upsample_bilinear(x), resized, atol=1e-6)
    # The positions of the new cells among the old ones, as PyTorch places them.
    places = [np.linspace(0, side - 1, 2 * side) for side in shape]
    grid = np.meshgrid(*places, indexing="ij")
    expected = [
        [scipy.ndimage.map_coordinates(x[n, :, :, c], grid, order=1) for c in range(3)]
        for n in range(2)
    ]
    found = upsample_bilinear(x, align_corners=True)
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), atol=1e-6)


def test_channels_become_blocks():
    x = np.arange(2 * 2 * 3 * 12, dtype=np.float32).reshape(2, 2, 3, 12)
    blocks = np.asarray(depth_to_space(x))
    assert blocks.shape == (2, 4, 6, 3)
    np.testing.assert_array_equal(blocks[1, 2:4, 4:6].reshape(12), x[1, 1, 2])
    np.testing.assert_array_equal(space_to_depth(blocks, 2), x)
    np.testing.assert_array_equal(space_to_depth(depth_to_space(x, 1), 1), x)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("side", [7, 8])
def test_shifted_images_are_a_grouped_convolution(kernel, stride, side):
    x = np.random.RandomState(0).randn(2, side, side + 3, 6).astype(np.float32)
    layer = layers.Depthwise(kernel, stride)
    variables = layer.init(jax.random.key(0), x)
    expected = jax.lax.conv_general_dilated(
        x, variables["params"]["kernel"], (stride, stride), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6,
    )  # fmt: skip
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)
