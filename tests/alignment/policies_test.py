"""Alignment by the policies that a network may have."""

import numpy as np

from pose2seg_jax.alignment import policies


def test_boxes_are_stretched_over_the_roi():
    boxes = np.array([[10.0, 20, 30, 5], [1, 2, 0, 0]], np.float32)
    matrix = np.asarray(policies.align_boxes(boxes, 16).matrix)
    corners = np.array([[10, 20], [40, 25]])
    np.testing.assert_allclose(corners @ matrix[0, :, :2].T + matrix[0, :, 2], [[0, 0], [16, 16]], atol=1e-4)  # fmt: skip
    assert np.all(np.isfinite(matrix))
