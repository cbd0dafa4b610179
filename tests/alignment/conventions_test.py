"""The letterbox: one matrix, the same pixels on host and device, against OpenCV's rule and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from pose2seg_jax.alignment import geometry, sampling
from pose2seg_jax.alignment.conventions import CONVENTIONS

_SHAPES = [(60, 80), (80, 60), (30, 20), (200, 133), (64, 64), (64, 48), (47, 64), (64, 1), (1, 1)]


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("shape", _SHAPES)
def test_host_and_device_fit_an_image_alike(name, shape):
    image = np.random.RandomState(0).randint(0, 255, (*shape, 3)).astype(np.uint8)
    convention = CONVENTIONS[name]
    host = convention.letterbox_image(image, 64).astype(int)
    device = np.asarray(convention.letterbox_on_device(image, 64)).astype(int)
    assert host.shape == device.shape == (64, 64, 3)
    assert np.abs(host - device).max() <= 2  # Pillow rounds between its two passes


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("shape", _SHAPES[:-2])
def test_the_matrix_says_where_the_pixels_are(name, shape):
    """A smooth image, read back through the matrix, is itself."""
    rng = np.random.RandomState(0)
    smooth = scipy.ndimage.gaussian_filter(rng.rand(*shape, 3), (max(shape) / 6,) * 2 + (0,))
    image = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    convention = CONVENTIONS[name]
    matrix = np.asarray(convention.letterbox(np.asarray(shape), 64))
    canvas = convention.letterbox_image(image, 64).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5), -1)
    x, y = np.moveaxis(
        np.asarray(geometry.apply(matrix, grid.reshape(1, -1, 2).astype(np.float32))), -1, 0
    )
    read = sampling.sample(canvas[None], jnp.zeros(1, jnp.int32), x[:, None], y[:, None])
    found = np.asarray(read).reshape(image.shape)
    inner = np.s_[2:-2, 2:-2] if min(shape) > 8 else np.s_[:]
    assert np.abs(found - image)[inner].mean() < 2


def test_an_image_of_the_canvass_size_is_only_moved():
    image = np.random.RandomState(0).randint(0, 255, (40, 64, 3)).astype(np.uint8)
    canvas = CONVENTIONS["pixel_centers"].letterbox_image(image, 64)
    np.testing.assert_array_equal(canvas[12:52], image)
    assert not canvas[:12].any()
    # By half a pixel where a row is missing.
    canvas = CONVENTIONS["pixel_centers"].letterbox_image(image[:-1], 64).astype(float)
    between = (image[:-2].astype(float) + image[1:-1]) / 2
    np.testing.assert_allclose(canvas[13:51], between, atol=0.5)
    matrix = np.asarray(CONVENTIONS["pixel_centers"].letterbox(np.array([39, 64]), 64))
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 12.5]])


def test_resizing_is_pillows():
    image = np.random.RandomState(0).randint(0, 255, (300, 400, 3)).astype(np.uint8)
    expected = PIL.Image.fromarray(image).resize((64, 48), PIL.Image.Resampling.BILINEAR)
    canvas = CONVENTIONS["pixel_centers"].letterbox_image(image, 64)
    np.testing.assert_array_equal(canvas[8:56], np.asarray(expected))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_sizes_may_be_many_and_traced(name):
    sizes = np.array([[[480, 640], [640, 427]], [[375, 500], [1, 1]]], np.float32)
    convention = CONVENTIONS[name]
    found = jax.jit(lambda s: convention.letterbox(s, 448))(sizes)
    for index in np.ndindex(2, 2):
        one = convention.letterbox(sizes[index].astype(int), 448)
        np.testing.assert_allclose(found[index], one, rtol=1e-6, atol=1e-4)
