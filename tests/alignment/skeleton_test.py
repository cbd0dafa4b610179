"""Skeleton Features against a plain NumPy drawing, and against the authors' code."""

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.alignment import skeleton
from pose2seg_jax.people import parts

ROI = 64


def _draw(pose, limbs):
    """Cell by cell, as the method is described."""
    maps = np.zeros((ROI, ROI, 17))
    fields = np.zeros((ROI, ROI, 2 * len(limbs)))
    for row in range(ROI):
        for column in range(ROI):
            for part, (x, y, v) in enumerate(pose):
                exponent = ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / 18
                if v > 0 and exponent <= 4.6025:
                    maps[row, column, part] = np.exp(-exponent) * (1 if v > 1 else -1)
            for limb, (first, second) in enumerate(limbs):
                (x0, y0, v0), (x1, y1, v1) = pose[first], pose[second]
                length = np.hypot(x1 - x0, y1 - y0)
                if min(v0, v1) <= 0 or length == 0:
                    continue
                ux, uy = (x1 - x0) / length, (y1 - y0) / length
                # The box of the limb, padded by a cell and rounded to whole cells.
                left, right = np.round(min(x0, x1) - 1.5), np.round(max(x0, x1) + 0.5)
                top, bottom = np.round(min(y0, y1) - 1.5), np.round(max(y0, y1) + 0.5)
                distance = abs(ux * (row + 0.5 - y0) - uy * (column + 0.5 - x0))
                if left <= column < right and top <= row < bottom and distance < 1:
                    fields[row, column, 2 * limb : 2 * limb + 2] = ux, uy
    return np.concatenate([maps, fields], axis=-1)


@pytest.mark.parametrize(("preset", "channels"), [("paper", 39), ("coco", 55)])
def test_equals_a_plain_drawing(preset, channels):
    limbs = {"paper": parts.PAPER_LIMBS, "coco": parts.COCO_LIMBS}[preset]
    assert skeleton.num_channels(limbs) == channels
    pose = standing_pose(3.3, -4.2, 70)
    pose[::4, 2] = 1
    pose[[7, 13]] = 0
    pose[15] = pose[16]  # a zero-length limb in no preset, coincident parts
    drawn = np.asarray(skeleton.skeleton_features(jnp.asarray(pose[None]), ROI, limbs))[0]
    assert drawn.shape == (ROI, ROI, channels)
    expected = _draw(pose.astype(np.float64), limbs)
    different = np.abs(drawn - expected) > 1e-4
    assert different.mean() < 1e-5  # a cell whose centre is on an edge may fall to either side


def test_missing_parts_and_zero_length_limbs_draw_nothing():
    pose = np.zeros((2, 17, 3), np.float32)
    pose[1, 5] = pose[1, 7] = [30, 30, 2]
    drawn = np.asarray(skeleton.skeleton_features(jnp.asarray(pose), ROI))
    assert not drawn[0].any()
    assert not drawn[1, ..., 17:].any()
    assert np.isfinite(drawn).all()


def test_hidden_parts_are_negative():
    pose = np.zeros((1, 17, 3), np.float32)
    pose[0, 0], pose[0, 1] = [30.5, 30.5, 1], [10.5, 10.5, 2]
    drawn = np.asarray(skeleton.skeleton_features(jnp.asarray(pose), ROI))
    assert drawn[0, 30, 30, 0] == -1
    assert drawn[0, 10, 10, 1] == 1


def test_equals_the_authors_code(data_dir):
    golden = np.load(data_dir / "golden/skeleton.npz")
    # Their parts are pixel indices; ours have pixel centres at + 0.5.
    poses = golden["roi_pose"] + np.array([0.5, 0.5, 0], np.float32)
    drawn = skeleton.skeleton_features(jnp.asarray(poses), ROI, parts.COCO_LIMBS)
    difference = np.abs(np.moveaxis(np.asarray(drawn), -1, 1) - golden["features"])
    assert np.mean(difference < 1e-3) > 0.9999
