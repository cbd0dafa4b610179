"""Pictures of masks and poses."""

import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax.pictures import overlays


def test_overlays_tint_the_mask_and_leave_the_rest():
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 20:40] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    drawn = overlays.overlay(image, [rle], [np.zeros((17, 3), np.float32)])
    assert np.all(drawn[mask == 0] == 100)
    assert np.all(np.any(drawn[mask == 1] != 100, axis=-1))
    assert len(np.unique(overlays.person_colors(12), axis=0)) == 12


def test_masks_may_be_arrays():
    image = np.full((60, 80, 3), 100, np.uint8)
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 20:40], masks[1, 5:9, 5:9] = True, True
    rles = [mask_utils.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    np.testing.assert_array_equal(overlays.overlay(image, masks), overlays.overlay(image, rles))
