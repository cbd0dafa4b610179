"""Masks as polygons, compared with pycocotools' rasteriser and SciPy's labels."""

import numpy as np
import pytest
import scipy.ndimage
from pycocotools import mask as mask_utils

from pose2seg_jax.people.polygons import polygons


def _encode(mask):
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


def _area(ring):
    x, y = ring.T
    return 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, "blobs"])
def test_polygons_hold_exactly_the_pixels_of_the_mask(share):
    """One for each part that hangs together by sides; holes, as they are seen across corners, are filled."""
    rng = np.random.RandomState(0)
    for _ in range(30):
        height, width = rng.randint(1, 40, 2)
        noise = rng.rand(height, width)
        mask = scipy.ndimage.gaussian_filter(noise, 2) > 0.5 if share == "blobs" else noise < share
        found = polygons(_encode(mask))
        labels, count = scipy.ndimage.label(mask)
        assert len(found) == count
        corners = np.ones((3, 3))
        parts = [scipy.ndimage.binary_fill_holes(labels == n, corners) for n in range(1, count + 1)]
        assert sorted(map(_area, found)) == sorted(part.sum() for part in parts)  # and clockwise
        if count:
            flat = [ring.ravel().tolist() for ring in found]
            back = mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(flat, height, width)))  # fmt: skip
            np.testing.assert_array_equal(back, np.any(parts, axis=0))


def test_only_corners_are_listed():
    mask = np.zeros((9, 9))
    mask[2:5, 3:8] = 1
    (ring,) = polygons(_encode(mask))
    assert ring.tolist() == [[3, 2], [8, 2], [8, 5], [3, 5]]
    assert polygons(_encode(np.zeros((4, 4)))) == []
